"""The fully connected network of the theory of training without depth limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.models.building import ActivationFactory, activation_module, require_positive
from normscope.models.protocol import NormalizerLike, require_normalizer

Weights: TypeAlias = Literal["orthogonal", "xavier", "gaussian"]

_LOG_LARGEST = 700.0  # of a gain: float64 holds exponentials of 709
_PIECE = 1 << 24  # entries of weights drawn at a time: 128 MiB in float64


def _identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"identity": _identity, "tanh": torch.tanh, "sin": torch.sin, "relu": F.relu}
)


class DeepMLP(nn.Module):
    r"""Hidden layers of one width, each affine, normalized, scaled, activated; then a linear readout.

    .. math:: x^l = \phi\left(\alpha_l N(W^l x^{l-1})\right), \quad \alpha_l = g\, l^{-p}, \quad l = 1 \dots L,
              \qquad y = W^{L+1} x^L + b

    with orthogonal W and, for :math:`\phi` other than the identity, a gain :math:`\alpha_l` that shrinks with depth, so
    that neither inputs become alike nor gradients explode, however large L is. With p > 1/4 the growth of log gradient
    norms, :math:`\propto \sum_l \alpha_l^4`, stays bounded; the source takes p = 0.4.

    Shape: (N, \*) in, flattened to (N, in_features); (N, num_classes) out. Layer l has `affines[l - 1]` and
    `norms[l - 1]`; the last weight is `readout`'s. The weights depend on the generator alone. They have the default
    dtype, and are orthogonal to its rounding: build under ``torch.set_default_dtype(torch.float64)`` for 1e-16.

    Args:
        in_features: numbers per example, after flattening.
        num_classes: outputs.
        depth: hidden layers L; a thousand and more are meant.
        width: units of each hidden layer.
        normalizer: asked for every site and every affine layer, the readout included. The source's is the row "bnl2",
            also with moment="rms", and "batchnorm".
        generator: of the weights; the global random state is not used.
        weights: "orthogonal" (Haar measure; with orthonormal rows or columns where it is not square), "xavier"
            (N(0, 2 / (fan_in + fan_out))) or "gaussian" (N(0, 1 / fan_in)), the readout's too.
        activation: "identity", "tanh", "sin" or "relu".
        gain: g.
        gain_exponent: p.
        bias: whether the hidden layers have one (initially zero); the readout always has.
        activation_factory: (num_features, channel_dim) -> a module for each layer, in place of `activation`.

    Raises:
        ValueError: a size is not a positive integer, an unknown name, a gain that is not positive, an exponent that
            makes one 0 or infinite; both `activation` and `activation_factory` are given; an input with another number
            of features.
        TypeError: `normalizer` is not one, or `activation_factory` makes no module.

    Source: Meterez et al. 2024, "Towards training without depth limits: batch normalization without gradient
    explosion", arXiv:2310.02012, equation 3 and section 5 (activation shaping).
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
        weights: Weights = "orthogonal",
        activation: str = "identity",
        gain: float = 1.0,
        gain_exponent: float = 0.0,
        bias: bool = False,
        activation_factory: ActivationFactory | None = None,
    ) -> None:
        require_positive(in_features=in_features, num_classes=num_classes, depth=depth, width=width)
        require_normalizer(normalizer)
        _require_name("weights", weights, get_args(Weights))
        _require_name("activation", activation, ACTIVATIONS)
        if activation_factory is not None and activation != "identity":
            raise ValueError(
                "A DeepMLP takes activation or activation_factory, got both. "
                "Leave activation out; the factory makes it."
            )
        super().__init__()
        self.in_features = in_features
        self.gains = _gains(gain, gain_exponent, depth)
        self.activation = ACTIVATIONS[activation]
        self.activations: nn.ModuleList | None = None
        if activation_factory is not None:
            made = (activation_module(activation_factory, width, channel_dim=1) for _ in range(depth))
            self.activations = nn.ModuleList(made)
        first = _layers(1, width, in_features, weights=weights, bias=bias, generator=generator)
        others = _layers(depth - 1, width, width, weights=weights, bias=bias, generator=generator)
        self.affines = nn.ModuleList(normalizer.affine(layer) for layer in itertools.chain(first, others))
        self.norms = nn.ModuleList(normalizer.site(width, ndim=2) for _ in range(depth))
        (readout,) = _layers(1, num_classes, width, weights=weights, bias=True, generator=generator)
        self.readout = normalizer.affine(readout)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = x.flatten(1)  # (N, in_features)
        if x.shape[1] != self.in_features:
            raise ValueError(
                f"This DeepMLP takes {self.in_features} features per example, got {x.shape[1]}. "
                f"Build it with in_features={x.shape[1]}."
            )
        activations: Iterable[Callable[[Tensor], Tensor]] = (
            itertools.repeat(self.activation, len(self.norms)) if self.activations is None else self.activations
        )
        for affine, norm, gain, activation in zip(self.affines, self.norms, self.gains, activations, strict=True):
            x = norm(affine(x))  # (N, width)
            x = activation(x if gain == 1.0 else gain * x)  # products with 1 would be 7 % of a step
        return self.readout(x)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Gains of the first and the last layer, which no submodule shows."""
        return f"gains={self.gains[0]:.3g}...{self.gains[-1]:.3g}"


def _layers(
    count: int, out_features: int, in_features: int, *, weights: Weights, bias: bool, generator: torch.Generator
) -> Iterator[nn.Linear]:
    """Linear layers of one shape, drawn together, with biases of zero."""
    at_once = max(1, _PIECE // (out_features * in_features))
    for start in range(0, count, at_once):
        shape = (min(at_once, count - start), out_features, in_features)
        for weight in _DRAWN[weights](shape, generator):
            layer = nn.Linear(in_features, out_features, bias=bias, device="meta").to_empty(device=weight.device)
            layer.weight = nn.Parameter(weight.clone())  # of its own memory, which a file of tensors asks for
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            yield layer


def _orthogonal(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Haar-distributed matrices (N, out, in), with orthonormal rows, or columns where there are fewer of these.

    The Q of Gaussian matrices, whose distribution is Haar's once the diagonal of R is positive.
    Source: Mezzadri 2007, "How to generate random matrices from the classical compact groups", section 5.
    """
    count, rows, columns = shape
    gaussian = _normal((count, max(rows, columns), min(rows, columns)), 1.0, generator)
    q, r = torch.linalg.qr(gaussian.double())
    q = q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).unsqueeze(-2)
    weights: Tensor = q.mT if rows < columns else q
    return weights.to(gaussian.dtype)


def _normal(shape: tuple[int, int, int], std: float, generator: torch.Generator) -> Tensor:
    return std * torch.randn(shape, generator=generator, device=generator.device)


_DRAWN: Mapping[Weights, Callable[[tuple[int, int, int], torch.Generator], Tensor]] = MappingProxyType(
    {
        "orthogonal": _orthogonal,
        "xavier": lambda shape, generator: _normal(shape, math.sqrt(2 / (shape[1] + shape[2])), generator),
        "gaussian": lambda shape, generator: _normal(shape, 1 / math.sqrt(shape[2]), generator),
    }
)


def _gains(gain: float, exponent: float, depth: int) -> tuple[float, ...]:
    if not 0 < gain < math.inf:
        raise ValueError(f"gain must be a positive finite number, got {gain!r}; 1.0 leaves the activation as it is.")
    if not math.isfinite(exponent):
        raise ValueError(f"gain_exponent must be a finite number, got {exponent!r}; 0.0 gives all layers one gain.")
    if not abs(math.log(gain) - exponent * math.log(depth)) < _LOG_LARGEST:
        raise ValueError(
            f"gain_exponent must leave the gain of layer {depth} positive and finite, got {exponent!r}; 0.4 is usual."
        )
    return tuple(gain * layer**-exponent for layer in range(1, depth + 1))


def _require_name(option: str, value: str, names: Collection[str]) -> None:
    if value not in names:
        raise ValueError(f"{option} must be one of {', '.join(names)}, got {value!r}.")
