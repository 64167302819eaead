"""Artificial gradient explosion: a factor on the gradient at each site, fixed or let off within the first steps."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from normscope.nn.switches.switch import Option, Stepped, Switch, check, is_count, is_finite


def gradient_scale(*, k: float, until: int | None = None) -> Switch:
    r"""Multiply the gradient by k on its way back through each site, and leave the forward pass alone.

    .. math:: S_k(y) = y, \quad \partial S_k / \partial y := k_t, \qquad
              k_t = 1 + (k - 1) \max(0, 1 - t / T)

    where t is the step and T = `until`; without it k_t = k. The gradient at site l of L then has the factor
    :math:`k^{L-l}`; Batch Norm's own is :math:`\sqrt{\pi/(\pi-1)} = 1.21`.

    The derivative is k in every mode alike: backward, forward, and either over the other. It is that of no function, so
    a second-order operator meets a surrogate: the site's module says so by ``surrogate = True``, as long as k_t is
    not 1.

    Args:
        k: factor at each site; 1 leaves everything as it is.
        until: step from which on there is no factor any more, having gone down linearly; None for a fixed one.

    Raises:
        ValueError: k is not a finite number, or `until` is less than 1.

    Source: "Is Batch Norm unique?", arXiv:2010.10687, appendix A (figures App.9 and App.10, with T = 50); where
    exactly the factor stands is a reconstruction.
    """
    check("gradient_scale", "k", k, is_finite(k), "a finite number")
    check("gradient_scale", "until", until, until is None or is_count(until), "an integer of at least 1, or None")
    options: dict[str, Option] = {"k": k, "until": until}
    formula = "dL/dy -> k dL/dy at each site" + ("" if until is None else f", k going to 1 until step {until}")
    return Switch(
        name="gradient_scale", formula=formula, options=options, at_site=lambda _place: GradientScale(k, until)
    )


@final
class GradientScale(Stepped):
    """The factor at one site; see `gradient_scale`. `step` is held in a buffer where the factor depends on it."""

    step: Tensor | None

    def __init__(self, k: float, until: int | None) -> None:
        super().__init__()
        self.k = k
        self.until = until
        self.register_buffer("step", None if until is None else torch.zeros((), dtype=torch.long))

    @property
    def surrogate(self) -> bool:
        """Whether the derivative is not that of the forward pass, at the present step."""
        return self.k != 1 and (self.step is None or self.until is None or int(self.step) < self.until)

    def at_step(self, step: int) -> None:
        """See `Stepped`."""
        if self.step is not None:
            self.step.fill_(step)

    def forward(self, y: Tensor, _x: Tensor, _affine: object) -> Tensor:
        """Return the site's output y, its gradient scaled."""
        excess: float | Tensor = self.k - 1
        if self.step is not None and self.until is not None:
            left = 1 - self.step.to(torch.promote_types(y.dtype, torch.float32)) / self.until
            excess = excess * left.clamp(min=0)
        return scaled_gradient(y, excess)

    def extra_repr(self) -> str:
        """The factor and its end."""
        return f"k={self.k}, until={self.until}"


def scaled_gradient(y: Tensor, excess: float | Tensor) -> Tensor:
    """Y bit for bit, with the derivative 1 + `excess`, a number or a 0-dim tensor, by y."""
    return y + excess * (y - y.detach())
