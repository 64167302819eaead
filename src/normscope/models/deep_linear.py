"""The deep linear network: products of matrices, with or without a normalizer between them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from normscope.models.building import require_positive, xavier_linear
from normscope.models.protocol import NormalizerLike, require_normalizer


class DeepLinear(nn.Module):
    r"""Linear layers without biases and activations, a normalizer between any two of them.

    .. math:: y = W_L N(W_{L-1} \dots N(W_1 x))

    Shape: (N, \*) in, flattened to (N, in_features); (N, num_classes) out. Normalizer sites: ``depth - 1``.
    Weights are drawn from U(-a, a), a^2 = 6 / (fan_in + fan_out); between square layers the second moment stays the
    same without a normalizer. They depend on the generator alone, so two normalizers given equal generators start from
    the same network.
    Reference: Santurkar et al. 2018, arXiv:1805.11604, whose sizes are the defaults (25 layers, 10x10 each); where the
    normalizer stands and the initialization are reconstructions.

    Args:
        in_features: numbers per example, after flattening.
        num_classes: outputs.
        depth: L, all linear layers.
        width: outputs of every layer but the last.
        normalizer: asked for every site and every linear layer.
        generator: of the weights; the global random state is not used.

    Raises:
        ValueError: a size is not a positive integer; an input with another number of features arrives.
        TypeError: `normalizer` is not one.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        depth: int = 25,
        width: int = 10,
        normalizer: NormalizerLike,
        generator: torch.Generator,
    ) -> None:
        require_positive(in_features=in_features, num_classes=num_classes, depth=depth, width=width)
        require_normalizer(normalizer)
        super().__init__()
        self.in_features = in_features
        widths = [in_features, *[width] * (depth - 1), num_classes]
        self.affines = nn.ModuleList(
            normalizer.affine(xavier_linear(fan_in, fan_out, bias=False, generator=generator))
            for fan_in, fan_out in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(normalizer.site(width, ndim=2) for _ in range(depth - 1))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = x.flatten(1)  # (N, in_features)
        if x.shape[1] != self.in_features:
            raise ValueError(
                f"This DeepLinear takes {self.in_features} features per example, got {x.shape[1]}. "
                f"Build it with in_features={x.shape[1]}."
            )
        *inner, last = self.affines
        for affine, norm in zip(inner, self.norms, strict=True):
            x = norm(affine(x))  # (N, width)
        return last(x)  # type: ignore[no-any-return]
