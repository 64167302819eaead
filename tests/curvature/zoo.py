"""Models whose curvature is compared with the oracles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import normscope as ns
from normscope.subject import Batch

NUM_CLASSES = 3


def randomized(model: nn.Module, *, scale: float = 0.5) -> nn.Module:
    """In float64, every parameter and every running statistic away from its special initial value."""
    draw = torch.Generator().manual_seed(7)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.5 * torch.randn(buffer.shape, generator=draw, dtype=torch.float64))
            if name.endswith("running_var"):
                buffer.add_(torch.rand(buffer.shape, generator=draw, dtype=torch.float64))
    return model


def features(size: int = 6) -> Batch:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(size, 4, generator=draw, dtype=torch.float64)
    return x, torch.randint(NUM_CLASSES, (size,), generator=draw)


def images(size: int = 5) -> Batch:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(size, 1, 5, 5, generator=draw, dtype=torch.float64)
    return x, torch.randint(NUM_CLASSES, (size,), generator=draw)


def sequences(size: int = 4) -> Batch:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(size, 3, 4, generator=draw, dtype=torch.float64)
    return x, torch.randint(NUM_CLASSES, (size,), generator=draw)


def tokens(size: int = 4) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(5, (size, 3), generator=draw), torch.randint(5, (size, 3), generator=draw)


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


@dataclass(frozen=True, kw_only=True)
class Case:
    build: Callable[[], nn.Module]
    batch: Batch = field(default_factory=features)
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    forward: Callable[[nn.Module, Any], Any] | None = None
    modes: tuple[str, ...] = ("train",)
    kinds: tuple[str, ...] = ("hessian", "ggn")
    refused: frozenset[str] = frozenset()  # machineries
    double_backward: bool = True  # whether torch's own is right


def mlp(norm: Callable[[int], nn.Module] = lambda width: nn.Identity(), act: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), norm(4), act or nn.Tanh(), nn.Linear(4, NUM_CLASSES))


def convnet(norm: Callable[[int], nn.Module], act: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), norm(4), act or nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, NUM_CLASSES)
    )


def row_mlp(row: Any) -> nn.Module:
    return ns.models.MLP(4, NUM_CLASSES, depth=2, width=4, normalizer=row, generator=torch.Generator().manual_seed(0))


def row_convnet(row: Any) -> nn.Module:
    return nn.Sequential(
        row.affine(nn.Conv2d(1, 4, 3)),
        row.site(4, ndim=4),
        nn.ReLU(),
        row.affine(nn.Conv2d(4, 2, 2)),
        row.site(2, ndim=4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, NUM_CLASSES),
    )


class SelfAttention(nn.Module):
    def __init__(self, *, is_causal: bool) -> None:
        super().__init__()
        self.project, self.readout, self._is_causal = nn.Linear(4, 12), nn.Linear(4, NUM_CLASSES), is_causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 2)).movedim(-3, 0).transpose(-3, -2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self._is_causal)
        return self.readout(mixed.transpose(1, 2).flatten(2).mean(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.readout = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.attention(x, x, x, need_weights=False)[0].mean(1))


class TiedLanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body = nn.Embedding(5, 4), nn.Linear(4, 4)
        self.readout = nn.Linear(4, 5, bias=False)
        self.readout.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(torch.tanh(self.body(self.embedding(x))))


class Recurrent(nn.Module):
    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core, self.readout = core, nn.Linear(3, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.core(x)[0].mean(1))


class Cells(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.readout = cell, nn.Linear(3, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.readout(state[0] if isinstance(state, tuple) else state)


class Checkpointed(nn.Module):
    def __init__(self, body: nn.Module, *, use_reentrant: bool) -> None:
        super().__init__()
        self.first, self.body, self._use_reentrant = nn.Linear(4, 4), body, use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.body, self.first(x), use_reentrant=self._use_reentrant)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.randn_like(x))


class Keyed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = mlp(), nn.Linear(NUM_CLASSES, 2)

    def forward(self, *, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        hidden = self.layer(x * mask)
        return {"logits": hidden, "auxiliary": self.head(hidden)}


def keyed_batch() -> Batch:
    x, y = features()
    return {"x": x, "mask": x > -1}, y


def keyed_loss(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs["logits"], targets) + outputs["auxiliary"].square().mean()


def checkpointed(norm: Callable[[int], nn.Module], act: nn.Module) -> Case:
    return Case(
        build=lambda: Checkpointed(mlp(norm, act), use_reentrant=False),
        modes=BOTH,
        refused=frozenset({"retained"}),
        double_backward=not isinstance(act, nn.SiLU),  # the oracle computes parts again outside its call
    )


BOTH = ("train", "eval")
# With the derivative of the forward where a row has another by definition: what those do, test_surrogates.py says.
ROWS = {
    row.name: ns.normalizer(row.name, derivative="true") if "derivative" in row.options else row
    for row in ns.normalizers()
}

CASES: dict[str, Case] = {}
for _name, _row in ROWS.items():
    _modes = BOTH if _row.evaluation == "running" else ("train",)
    if not _row.needs_positions:
        CASES[f"row_{_name}_mlp"] = Case(build=lambda row=_row: row_mlp(row), modes=_modes)
    CASES[f"row_{_name}_conv"] = Case(build=lambda row=_row: row_convnet(row), batch=images(), modes=_modes)

NORMS_1D: dict[str, Callable[[int], nn.Module]] = {
    "batchnorm1d": nn.BatchNorm1d,
    "batchnorm1d_untracked": lambda c: nn.BatchNorm1d(c, track_running_stats=False),
    "batchnorm1d_cumulative": lambda c: nn.BatchNorm1d(c, momentum=None),
    "layernorm": nn.LayerNorm,
    "rmsnorm": nn.RMSNorm,
    "groupnorm_flat": lambda c: nn.GroupNorm(2, c),
}
NORMS_2D: dict[str, Callable[[int], nn.Module]] = {
    "batchnorm2d": nn.BatchNorm2d,
    "batchnorm2d_untracked": lambda c: nn.BatchNorm2d(c, track_running_stats=False),
    "batchnorm2d_cumulative": lambda c: nn.BatchNorm2d(c, momentum=None),
    "groupnorm": lambda c: nn.GroupNorm(2, c),
    "instancenorm2d": lambda c: nn.InstanceNorm2d(c, affine=True),
    "instancenorm2d_tracked": lambda c: nn.InstanceNorm2d(c, affine=True, track_running_stats=True),
    "localresponsenorm": lambda c: nn.LocalResponseNorm(3, alpha=0.5),
    "layernorm_channels": lambda c: nn.LayerNorm([c, 3, 3]),
}
ACTIVATIONS = {
    "relu": nn.ReLU(), "relu_inplace": nn.ReLU(inplace=True), "silu": nn.SiLU(), "silu_inplace": nn.SiLU(inplace=True),
    "mish": nn.Mish(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU(approximate="tanh"), "softplus": nn.Softplus(),
    "tanh": nn.Tanh(), "elu": nn.ELU(), "leaky": nn.LeakyReLU(), "hardswish": nn.Hardswish(),
}  # fmt: skip
for _name, _norm in NORMS_1D.items():
    CASES[_name] = Case(build=lambda norm=_norm: mlp(norm), modes=BOTH, kinds=("hessian",))
for _name, _norm in NORMS_2D.items():
    CASES[_name] = Case(build=lambda norm=_norm: convnet(norm), batch=images(), modes=BOTH, kinds=("hessian",))
for _name, _act in ACTIVATIONS.items():
    CASES[_name] = Case(build=lambda act=_act: mlp(nn.LayerNorm, act), kinds=("hessian",))
CASES |= {
    "dropout": Case(modes=BOTH, build=lambda: nn.Sequential(nn.Dropout(0.5), mlp(), nn.AlphaDropout(0.5))),
    "multihead_attention": Case(build=Attention, batch=sequences(), modes=BOTH),
    "attention": Case(build=lambda: SelfAttention(is_causal=False), batch=sequences()),
    "causal_attention": Case(build=lambda: SelfAttention(is_causal=True), batch=sequences()),
    "transformer": Case(
        build=lambda: nn.TransformerEncoderLayer(4, 2, 4, batch_first=True),
        batch=sequences(),
        modes=BOTH,
        loss=lambda out, y: F.cross_entropy(out.mean(1), y),
    ),
    "transformer_gelu_prenorm": Case(
        build=lambda: nn.TransformerEncoderLayer(4, 2, 4, batch_first=True, norm_first=True, activation="gelu"),
        batch=sequences(),
        loss=lambda out, y: F.cross_entropy(out.mean(1), y),
    ),
    "tied": Case(build=TiedLanguageModel, batch=tokens(), loss=token_loss),
    "lstm": Case(build=lambda: Recurrent(nn.LSTM(4, 3, batch_first=True)), batch=sequences()),
    "gru": Case(build=lambda: Recurrent(nn.GRU(4, 3, batch_first=True)), batch=sequences()),
    "rnn": Case(build=lambda: Recurrent(nn.RNN(4, 3, batch_first=True)), batch=sequences()),
    "lstm_cell": Case(build=lambda: Cells(nn.LSTMCell(4, 3)), batch=sequences()),
    "gru_cell": Case(build=lambda: Cells(nn.GRUCell(4, 3)), batch=sequences()),
    "weight_norm": Case(
        build=lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3)),
        double_backward=False,
    ),
    "checkpointed": checkpointed(nn.BatchNorm1d, nn.Tanh()),
    "checkpointed_replaced": checkpointed(lambda c: nn.GroupNorm(2, c), nn.SiLU()),
    "noisy": Case(build=Noisy),
    "keyed": Case(build=Keyed, batch=keyed_batch(), loss=keyed_loss, forward=lambda model, inputs: model(**inputs)),
}
