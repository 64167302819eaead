"""What a row of the table is: data that says what a normalizer does, and the two things made from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import nn

from normscope.nn import affine as affine_layers
from normscope.nn.functional import Moment, Over, PenaltyForm
from normscope.nn.options import Setting
from normscope.nn.site import Site

Order = Literal["affine_norm", "norm_affine"]
LayerT = TypeVar("LayerT", bound=nn.Module)
_OF_P: dict[int | str, Moment] = {1: "l1", 2: "std", "inf": "linf"}


class Algorithm(Protocol):
    """The class of a row's sites."""

    @staticmethod
    def couples(row: Normalizer, /) -> bool:
        """Whether a site of this row couples the examples of a batch in train mode."""

    def __call__(
        self,
        row: Normalizer,
        num_features: int,
        *,
        ndim: int,
        channel_dim: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> nn.Module:
        """Make a site."""


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    r"""One row: what is subtracted, what is divided, over which axes, and what happens to the affine layer.

    The whole of a row is :math:`z = W(x - [\bar x]) + b`,
    :math:`y = w_c\,(z - \mu)/\sqrt{\mathrm{moment}(z - \mu) + \epsilon} + b_c`, each part present or not.

    Attributes:
        name: the row's name in the table.
        formula: what it computes, in one line of text.
        reference: who defined it.
        layer: what the row does to the affine layer ("plain"; "centered" input; "weight_norm"; "unit_norm" weights
            and an input without a ReLU's mean; "standardized" weights).
        mean: what the subtracted mean is taken over, or None.
        scale: what the divisor is taken over, or None.
        moment: the divisor is the standard deviation about its own mean, the root mean square, or the L2 norm.
        p: the divisor is the p-th root of the mean p-th power of magnitudes instead, 1, 2 or "inf" (their maximum).
        eps: added to the moment, inside the root.
        elementwise_affine: whether each channel gets a weight and a bias after normalization (init 1 and 0).
        elementwise_bias: whether the bias is among them.
        momentum: weight of the new value in the running statistics (torch's sense); None for the cumulative average.
        evaluation: statistics of the batch axes in eval mode: "running", or those of the "batch" at hand.
        running_variance: "unbiased" (n - 1, as torch has it) or "biased" (n, as the paper's code has it).
        penalty: form of RegNorm's penalty, or None.
        penalty_over: batch means per "neuron" (over N) or per "channel" (over all but C).
        penalty_unbiased: subtract the sampling floor 1/N (form A alone).
        derivative: for rows whose backward pass is a "surrogate" by definition, or the "true" one of their forward
            if that is asked for; None for all others, which have the true one.
        settings: what the row has for itself; see `setting`.
        algorithm: the module that stands where a network normalizes.
    """

    name: str
    formula: str
    reference: str
    layer: Literal["plain", "centered", "weight_norm", "unit_norm", "standardized"] = "plain"
    mean: Over | None = None
    scale: Over | None = None
    moment: Moment = "std"
    p: Literal[1, 2, "inf"] | None = None
    eps: float = 1e-5
    elementwise_affine: bool = True
    elementwise_bias: bool = True
    momentum: float | None = 0.1
    evaluation: Literal["running", "batch"] = "batch"
    running_variance: Literal["unbiased", "biased"] = "unbiased"
    penalty: PenaltyForm | None = None
    penalty_over: Literal["neuron", "channel"] = "neuron"
    penalty_unbiased: bool = False
    derivative: Literal["surrogate", "true"] | None = None
    settings: tuple[Setting, ...] = ()
    algorithm: Algorithm = Site

    @property
    def couples_batch(self) -> bool:
        """Whether y[i] depends on x[j] in train mode. RegNorm's penalty couples the loss, not the outputs."""
        return self.algorithm.couples(self)

    @property
    def surrogate_backward(self) -> bool:
        """Whether the backward pass in train mode is not the derivative of the forward, by definition of the row."""
        return self.derivative == "surrogate"

    @property
    def needs_positions(self) -> bool:
        """Whether the row takes statistics over positions alone, and so refuses (N, C), which has none."""
        return "instance" in (self.mean, self.scale) and self.algorithm is Site

    def setting(self, name: str) -> Any:
        """The value of one of the row's own options."""
        return next(setting.value for setting in self.settings if setting.name == name)

    @property
    def penalized(self) -> bool:
        """Whether the row adds RegNorm's penalty to the loss."""
        return self.penalty is not None

    @property
    def divisor(self) -> Moment:
        """What the divisor is the root of, or is (l1, linf); over a mean already removed p = 2 is the deviation."""
        return self.moment if self.p is None else _OF_P[self.p]

    @property
    def fused(self) -> Literal["batch_norm", "layer_norm"] | None:
        """Torch's own layer that this row equals, if any."""
        if self.divisor != "std" or self.mean != self.scale or self.algorithm is not Site:
            return None
        return {"batch": "batch_norm", "layer": "layer_norm"}.get(self.mean or "")  # type: ignore[return-value]

    @property
    def options(self) -> dict[str, Any]:
        """Return the options `normalizer(name, ...)` takes for this row, with their values."""
        shared = {name: getattr(self, name) for name in self._shared_options}
        return {"affine": self.elementwise_affine} | shared | self.own_options

    @property
    def own_options(self) -> dict[str, Any]:
        """Those of the options that belong to what is particular to the row."""
        derivative = {} if self.derivative is None else {"derivative": self.derivative}
        return derivative | {setting.name: setting.value for setting in self.settings}

    @property
    def _shared_options(self) -> list[str]:
        names: list[str] = []
        if self.scale is not None or self.layer == "unit_norm":
            names.append("eps")
        if self.algorithm is not Site:
            return [*names, "momentum"] if self.scale == "batch" else names
        if self.scale is not None and self.mean != self.scale:  # about a mean already removed, std and rms are one
            names.append("moment")
        if self.p is not None:
            names.append("p")
        elif self.couples_batch and self.moment != "norm":
            names += ["momentum", "evaluation"]
            if self.scale == "batch":
                names.append("running_variance")
        if {"layer", "channels"} & {self.mean, self.scale}:
            names.append("over")
        if self.penalized:
            names += ["penalty", "penalty_over", "penalty_unbiased"]
        return names

    @property
    def over(self) -> Over:
        """What the row's layer statistics are taken over: the whole "layer", or the "channels" of each position."""
        return "channels" if "channels" in (self.mean, self.scale) else "layer"

    def site(
        self,
        num_features: int,
        ndim: int = 4,
        *,
        channel_dim: int | None = None,
        order: Order = "affine_norm",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> nn.Module:
        """Make the module for the place where a network normalizes.

        Args:
            num_features: channels C of its input.
            ndim: axes of its input: 2 for (N, C), 3 for (N, T, C), 4 for (N, C, H, W).
            channel_dim: the channel axis, if not the one above.
            order: "norm_affine" for blocks that normalize before the affine layer; a row that centers the layer's
                input is then the identity here, and its `affine` does both.
            device: of parameters and buffers.
            dtype: of parameters and buffers.

        Raises:
            ValueError: num_features below 1, ndim not 2, 3 or 4, channel_dim out of range, unknown order; groups that
                the channels do not make.
        """
        _check_order(order)
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}; give the channels of the input.")
        if ndim not in (2, 3, 4):
            raise ValueError(f"A site takes inputs of 2, 3 or 4 axes, got ndim={ndim}; reshape the input.")
        standard = 2 if ndim == 3 else 1
        axis = standard if channel_dim is None else channel_dim % ndim if -ndim <= channel_dim < ndim else 0
        if axis == 0:
            raise ValueError(f"channel_dim must be an axis of the input other than the batch's, got {channel_dim}.")
        row = self._placed(order)
        return row.algorithm(row, num_features, ndim=ndim, channel_dim=axis, device=device, dtype=dtype)

    def affine(self, layer: LayerT, *, order: Order = "affine_norm") -> LayerT:
        """Return the Linear or Conv as this row wants it.

        A new module of the same class with the same parameter names and Parameters (weight norm lists its new keys);
        `layer` is untouched. With order "norm_affine" a row that centers also divides here, after the layer.

        Raises:
            TypeError: the row changes the layer and its class is not Linear, Conv1d, Conv2d or Conv3d.
            ValueError: unknown order; weights of a single input, which cannot be standardized.
        """
        _check_order(order)
        if self.layer == "plain":
            return affine_layers.shared_copy(layer)
        if self.layer == "weight_norm":
            return affine_layers.normalized_weight(layer)
        if self.layer == "unit_norm":
            return affine_layers.propagated(layer, self.eps, after_relu=order == "affine_norm")
        if self.layer == "standardized":
            eps, fan_in_scale = self.setting("weight_eps"), self.setting("fan_in_scale")
            return affine_layers.standardized_weight(layer, eps, fan_in_scale=fan_in_scale)
        new = affine_layers.centered_input(layer, self.over)
        return new if order == "affine_norm" else affine_layers.divided_output(new, self)

    def _placed(self, order: Order) -> Normalizer:
        """What is left of the row for the site, at its place."""
        if (order == "norm_affine" and self.layer == "centered") or self.own_options.get("outputs") == "none":
            return dataclasses.replace(self, mean=None, scale=None, penalty=None, elementwise_affine=False)
        if order == "norm_affine" and self.layer == "unit_norm":  # no ReLU follows, so there is none to make up for
            return dataclasses.replace(self, algorithm=Site)
        return self


def _check_order(order: str) -> None:
    if order not in ("affine_norm", "norm_affine"):
        raise ValueError(f"order must be 'affine_norm' or 'norm_affine', got {order!r}.")
