"""The decoder-only language model with normalization before every sublayer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.models.building import (
    ActivationFactory,
    embedding,
    make_activation,
    require_positive,
    require_probability,
    xavier_linear,
)
from normscope.models.protocol import NormalizerLike, require_normalizer


class Transformer(nn.Module):
    r"""Tokens in, at every position the logits of the next token out; no output depends on a later token.

    .. math:: x \leftarrow x + \mathrm{attention}(N_1(x)),\quad x \leftarrow x + V\,\mathrm{GELU}(U N_2(x) + u) + v,
              \qquad y = R\,N(x) + r

    with causal self-attention of `heads` heads without biases, the first x the token's embedding plus that of its
    position, and `depth` blocks before the readout, whose weights are its own. Dropout follows the embedding, the
    attention's probabilities and output, GELU, and V: each an `nn.Dropout`, so that whoever switches those off
    measures a function of the tokens alone.

    Shape: (N, T) int64 in, T up to `max_length`; (N, T, vocabulary) out. Shifting targets by one and leaving out
    padding is the loss's matter. Normalizer sites: ``2 depth + 1``, of inputs (N, T, dim), per token. Parameters with a
    gain and a shift per channel and site, at the default sizes with 32,000 tokens: 51,965,184.

    Where the normalizer enters: the sites of a block come before their affine layers (`order="norm_affine"`: query,
    key, value, U). There PreLayerNorm's site is the identity, each of the four layers subtracts the token's mean from
    its input and divides its output by the output's standard deviation over features, without gain and shift. The
    attention's output layer, V and the readout follow no site of a block and are asked for in the ordinary order; the
    last site is too, so that PreLayerNorm's two operations both come before the logits. This placement is a
    reconstruction: the paper says only that Layer Norm was replaced. Rows that couple the batch take statistics over
    N and T, so in train mode an output then depends on later tokens.

    Affine weights are Xavier uniform, embeddings N(0, 1), positions start at
    :math:`[\sin(t w_i), \cos(t w_i)],\ w_i = 10000^{-2i/\mathrm{dim}}` and are learned, biases are zero. The weights
    depend on the generator alone, so two normalizers given equal generators start from the same network.
    Reference: Vaswani et al. 2017, arXiv:1706.03762; "Transformer-1D" of Rao and Sohl-Dickstein 2020,
    arXiv:2010.10687, table 3, whose sizes are the defaults.

    Args:
        vocabulary: number of tokens.
        depth: blocks.
        dim: features of a token between blocks, a multiple of `heads`.
        heads: of the attention.
        hidden: features between U and V.
        max_length: positions.
        dropout: probability, of all five kinds.
        normalizer: asked for every site and every affine layer, the readout included.
        generator: of the weights; the global random state is not used, except by dropout in training.
        activation_factory: (num_features, channel_dim) -> the module in place of each GELU; GELU if None.

    Raises:
        ValueError: a size is not a positive integer, `heads` does not divide `dim`, dropout is outside [0, 1); an input
            of another shape or dtype, or longer than `max_length`, arrives.
        TypeError: `normalizer` is not one, or `activation_factory` makes no module.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        depth: int = 6,
        dim: int = 512,
        heads: int = 8,
        hidden: int = 2048,
        max_length: int = 512,
        dropout: float = 0.1,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation_factory: ActivationFactory | None = None,
    ) -> None:
        require_positive(vocabulary=vocabulary, depth=depth, dim=dim, heads=heads, hidden=hidden, max_length=max_length)
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} and heads={heads}.")
        require_probability(dropout=dropout)
        require_normalizer(normalizer)
        super().__init__()
        self.embedding = embedding(vocabulary, dim, generator=generator)
        self.positions = nn.Parameter(_sinusoids(max_length, dim).to(generator.device))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                heads=heads,
                hidden=hidden,
                dropout=dropout,
                normalizer=normalizer,
                generator=generator,
                activation_factory=activation_factory,
            )
            for _ in range(depth)
        )
        self.norm = normalizer.site(dim, ndim=3)
        self.readout = normalizer.affine(xavier_linear(dim, vocabulary, bias=True, generator=generator))

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: D102
        length = self.positions.shape[0]
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or tokens.shape[1] > length:
            raise ValueError(
                f"This Transformer takes int64 tokens of shape (N, T) with T up to {length}, got {tokens.dtype} "
                f"of shape {tuple(tokens.shape)}. Build it with the max_length of your data."
            )
        x = self.dropout(self.embedding(tokens) + self.positions[: tokens.shape[1]])  # (N, T, dim)
        for block in self.blocks:
            x = block(x)  # (N, T, dim)
        return self.readout(self.norm(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One block of `Transformer`: (N, T, dim) -> (N, T, dim)."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        hidden: int,
        dropout: float,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation_factory: ActivationFactory | None,
    ) -> None:
        super().__init__()
        self.norm1 = normalizer.site(dim, ndim=3, order="norm_affine")
        self.attention = Attention(dim, heads=heads, dropout=dropout, normalizer=normalizer, generator=generator)
        self.dropout1 = nn.Dropout(dropout)
        self.norm2 = normalizer.site(dim, ndim=3, order="norm_affine")
        widening = xavier_linear(dim, hidden, bias=True, generator=generator)
        self.widening = normalizer.affine(widening, order="norm_affine")
        self.activation = make_activation(activation_factory, hidden, channel_dim=2, default=F.gelu)
        self.dropout2 = nn.Dropout(dropout)
        self.narrowing = normalizer.affine(xavier_linear(hidden, dim, bias=True, generator=generator))
        self.dropout3 = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = x + self.dropout1(self.attention(self.norm1(x)))
        inner = self.dropout2(self.activation(self.widening(self.norm2(x))))  # (N, T, hidden)
        return x + self.dropout3(self.narrowing(inner))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Causal self-attention, (N, T, dim) -> (N, T, dim): position t attends to positions up to t."""

    def __init__(
        self, dim: int, *, heads: int, dropout: float, normalizer: NormalizerLike, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.heads = heads

        def projection() -> nn.Linear:
            return xavier_linear(dim, dim, bias=False, generator=generator)

        self.query = normalizer.affine(projection(), order="norm_affine")
        self.key = normalizer.affine(projection(), order="norm_affine")
        self.value = normalizer.affine(projection(), order="norm_affine")
        self.dropout = nn.Dropout(dropout)
        self.output = normalizer.affine(projection())

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        query, key, value = (self._by_head(layer(x)) for layer in (self.query, self.key, self.value))
        # The fused kernel draws the mask itself; whether it does is asked of the module that would, so that switching
        # off a model's dropout modules switches off this one.
        probability = self.dropout.p if self.dropout.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=probability, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)  # (N, heads, T, dim / heads)


def _sinusoids(length: int, dim: int) -> Tensor:
    """(length, dim): sines of the position at falling frequencies, then cosines (Vaswani et al. 2017, section 3.5)."""
    frequencies = 10000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.arange(length, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim].to(torch.get_default_dtype())
