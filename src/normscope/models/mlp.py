"""The fully connected network of mean-field theory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.models.building import ActivationFactory, activation_module, linear, require_positive
from normscope.models.protocol import NormalizerLike, require_normalizer


class MLP(nn.Module):
    r"""Hidden layers of one width, each affine, normalized, activated; then a linear readout.

    .. math:: x^l = \phi(N(W^l x^{l-1} + b^l)), \quad l = 1 \dots L, \qquad y = W^{L+1} x^L + b^{L+1}

    Shape: (N, \*) in, flattened to (N, in_features); (N, num_classes) out. There are `depth` normalizer sites.
    Hidden weights are N(0, 2 / fan_in), the readout's N(0, 1 / fan_in), biases zero: with ReLU and no normalizer the
    second moment of the preactivations is the same in every layer. The weights depend on the generator alone, so two
    normalizers given equal generators start from the same network.
    Reference: Rao and Sohl-Dickstein 2020, arXiv:2010.10687, eq. 1, 2 and figure 1.

    Args:
        in_features: numbers per example, after flattening.
        num_classes: outputs.
        depth: hidden layers.
        width: units of each hidden layer.
        normalizer: asked for every site and every affine layer, the readout included.
        generator: of the weights; the global random state is not used.
        activation: elementwise, the same at every layer.
        activation_factory: (num_features, channel_dim) -> a module for each layer, in place of `activation`.
        bias: whether the hidden layers have one; the readout always has.

    Raises:
        ValueError: a size is not a positive integer; both `activation` and `activation_factory` are given; an input
            with another number of features arrives.
        TypeError: `normalizer` is not one, or `activation_factory` makes no module.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        depth: int,
        width: int,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation: Callable[[Tensor], Tensor] = F.relu,
        activation_factory: ActivationFactory | None = None,
        bias: bool = True,
    ) -> None:
        require_positive(in_features=in_features, num_classes=num_classes, depth=depth, width=width)
        require_normalizer(normalizer)
        if activation_factory is not None and activation is not F.relu:
            raise ValueError(
                "An MLP takes activation or activation_factory, got both. Leave activation out; the factory makes it."
            )
        super().__init__()
        self.in_features = in_features
        widths = [in_features, *[width] * depth]
        self.affines = nn.ModuleList(
            normalizer.affine(linear(fan_in, width, gain="relu", bias=bias, generator=generator))
            for fan_in in widths[:-1]
        )
        self.norms = nn.ModuleList(normalizer.site(width, ndim=2) for _ in range(depth))
        self.activation = activation
        self.activations: nn.ModuleList | None = None
        if activation_factory is not None:
            made = (activation_module(activation_factory, width, channel_dim=1) for _ in range(depth))
            self.activations = nn.ModuleList(made)
        self.readout = normalizer.affine(linear(width, num_classes, gain="linear", bias=True, generator=generator))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = x.flatten(1)  # (N, in_features)
        if x.shape[1] != self.in_features:
            raise ValueError(
                f"This MLP takes {self.in_features} features per example, got {x.shape[1]}. "
                f"Build it with in_features={x.shape[1]}."
            )
        activations: Iterable[Callable[[Tensor], Tensor]] = (
            itertools.repeat(self.activation, len(self.norms)) if self.activations is None else self.activations
        )
        for affine, norm, activation in zip(self.affines, self.norms, activations, strict=True):
            x = activation(norm(affine(x)))  # (N, width)
        return self.readout(x)  # type: ignore[no-any-return]
