"""Projections that a network keeps fused in one weight, each given to the row by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from normscope.nn.affine import shared_copy
from normscope.nn.convert.choice import RowLike
from normscope.nn.convert.layers import TransposedLinear


@final
class BorrowedLinear(nn.Linear):
    r"""A linear layer without parameters of its own: :math:`y = x W^T + b`, with W and b given in the call.

    It has the hooks by which a row centers its input and divides its output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        nn.Module.__init__(self)
        self.in_features = in_features
        self.out_features = out_features
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]  # noqa: D102
        return F.linear(x, weight, bias)


def borrowed(row: RowLike, order: Any, in_features: int, out_features: int, *, training: bool) -> nn.Module:
    """A `BorrowedLinear` as the row wants it."""
    layer: nn.Module = row.affine(BorrowedLinear(in_features, out_features), order=order)
    return layer.train(training)


class CenteredWeight(nn.Module):
    r"""Parametrization that centers the input of a layer by its weight: :math:`W (x - \bar x) = (W - \bar W) x`.

    The mean of W is over the input features of each output.
    """

    def forward(self, weight: Tensor) -> Tensor:  # noqa: D102
        return weight - weight.mean(1, keepdim=True)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Any weight will do; the component along the mean is never used."""
        return weight


def centered_weight(layer: nn.Module, used_by: str) -> nn.Module:
    """A linear layer, centered where the network reads its weight instead of calling it.

    Raises:
        TypeError: it is not linear, or is parametrized already.
    """
    if type(layer) is not nn.Linear or hasattr(layer, "parametrizations"):
        raise TypeError(
            f"its weight is used by {used_by} without calling the {type(layer).__name__}, so that its input cannot be "
            "centered; call the layer, or leave it out by filter_fn"
        )
    new = shared_copy(layer)
    parameter = layer.weight
    parametrize.register_parametrization(new, "weight", CenteredWeight())
    new.parametrizations.weight.original = parameter  # type: ignore[union-attr]  # the same Parameter: ties hold
    return new


@final
class SplitLinear(nn.Linear):
    """A linear layer whose output features are several projections (query, key, value), each one given to the row.

    The parameters are the old layer's, with their names; the outputs stand where they stood.

    Args:
        layer: the linear layer, or one with a transposed weight.
        groups: output features of each projection, disjoint and together all.
        row: the row.
        order: before or after its norm.
    """

    def __init__(self, layer: nn.Linear, groups: Sequence[Tensor], row: RowLike, order: Any) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.transposed = isinstance(layer, TransposedLinear)
        self.weight, self.bias = layer.weight, layer.bias
        self.parts = nn.ModuleList(
            borrowed(row, order, layer.in_features, len(group), training=layer.training) for group in groups
        )
        self.training = layer.training
        places = torch.cat(list(groups))
        self.contiguous = bool((places == torch.arange(len(places))).all())
        for index, group in enumerate(groups):
            self.register_buffer(f"features{index}", group.to(layer.weight.device), persistent=False)
        self.register_buffer("back", torch.argsort(places).to(layer.weight.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        weight = self.weight.t() if self.transposed else self.weight
        outputs = []
        for index, part in enumerate(self.parts):
            features = getattr(self, f"features{index}")
            outputs.append(part(x, weight[features], None if self.bias is None else self.bias[features]))
        y = torch.cat(outputs, dim=-1)
        return y if self.contiguous else y.index_select(-1, self.back)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        """Sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


@final
class SeparatedAttention(nn.MultiheadAttention):
    r"""Torch's multi-head attention with its four projections given to a row one by one.

    .. math:: \mathrm{softmax}(q k^T / \sqrt{d} + \mathrm{mask})\, v

    Parameters, their names, arguments, masks and outputs are those of `torch.nn.MultiheadAttention`; it never takes
    that module's fused path. Made by `of`.
    """

    projections: nn.ModuleList

    @classmethod
    def of(cls, layer: nn.MultiheadAttention, row: RowLike, order: Any) -> SeparatedAttention:
        """The layer with the same Parameters.

        Raises:
            ValueError: it has `bias_k` or `add_zero_attn`, whose rows are no outputs of a projection.
        """
        if layer.bias_k is not None or layer.add_zero_attn:
            raise ValueError(
                "the fused in_proj of a MultiheadAttention with add_bias_kv or add_zero_attn is not converted; "
                "leave it out by filter_fn"
            )
        new = shared_copy(layer)
        new.__class__ = cls
        assert isinstance(new, SeparatedAttention)
        inputs = (layer.embed_dim, layer.kdim, layer.vdim)
        new.projections = nn.ModuleList(
            borrowed(row, order, size, layer.embed_dim, training=layer.training) for size in inputs
        )
        new.out_proj = row.affine(layer.out_proj, order="affine_norm")
        return new

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's; see there for the arguments."""
        if is_causal and attn_mask is None:
            raise ValueError("is_causal says what attn_mask is, but there is none; pass attn_mask too.")
        batched = query.ndim == 3
        first = self.batch_first
        inputs = [(x if first else x.transpose(0, 1)) if batched else x.unsqueeze(0) for x in (query, key, value)]
        q, k, v = (self._heads(x) for x in self._project(inputs))  # (N, heads, length, head_dim)
        bias = _mask(attn_mask, key_padding_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
            weights = F.dropout((scores if bias is None else scores + bias).softmax(-1), dropout)
            mixed = weights @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, bias, dropout)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        if not batched:
            return output.squeeze(0), weights
        return output if first else output.transpose(0, 1), weights

    def _project(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if self._qkv_same_embed_dim:
            weights = list(self.in_proj_weight.chunk(3))
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        rows = zip(self.projections, inputs, weights, biases, strict=True)
        return [part(x, weight, bias) for part, x, weight, bias in rows]

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)


def _mask(attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """Both masks as one addend of the scores, broadcast to (N, heads, L, S)."""
    bias = None
    if attn_mask is not None:
        bias = _additive(attn_mask, q.dtype)
        if bias.ndim == 3:
            bias = bias.view(q.shape[0], q.shape[1], *bias.shape[1:])
    if padding is not None:
        columns = _additive(padding, q.dtype).view(-1, 1, 1, k.shape[2])
        bias = columns if bias is None else bias + columns
    return bias


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
    return mask.to(dtype)
