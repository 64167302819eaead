"""Small networks of torch's own modules, of the kinds that are converted."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class ResNet(nn.Module):
    """(N, 3, H, W) -> (N, 5)."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList([Block(channels), Block(channels)])
        self.fc = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


class Gated(nn.Module):
    """A convolution, a batch norm and a squeeze-and-excite gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.squeeze = nn.Conv2d(4, 2, 1)
        self.excite = nn.Conv2d(2, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(x.mean((2, 3)))


class PreNorm(nn.Module):
    """A transformer block of one's own, with query, key and value in one linear layer, and a readout."""

    def __init__(self, dim: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2, self.final = (nn.LayerNorm(dim) for _ in range(3))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.readout = nn.Linear(dim, 7)
        self.drop = nn.Dropout(0.1)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.drop(self.proj(mixed))
        x = x + self.down(F.gelu(self.up(self.drop(self.norm2(x)))))
        return self.readout(self.final(x))


class Odd(nn.Module):
    """One norm under two names and called twice, norms in a list and a dictionary, and norms that are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LayerNorm(6)
        self.again = self.first
        self.several = nn.ModuleList([nn.LayerNorm(6), nn.Identity(), nn.LayerNorm(6)])
        self.table = nn.ModuleDict({"a.b".replace(".", "_"): nn.LayerNorm(6, elementwise_affine=False)})
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.layer(self.first(x)) + x)
        for module in self.several:
            x = module(x)
        x = self.table["a_b"](self.lstm(x)[0])
        return F.layer_norm(x, (6,))


def with_random_vectors(model: nn.Module) -> nn.Module:
    """The model in float64 with gains, shifts and running statistics that are not what they start as."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.ndim == 1:
            low = 0.5 if name.endswith(("weight", "var")) else -0.5
            nn.init.uniform_(tensor, low, low + 1, generator=generator)
    return model.double()
