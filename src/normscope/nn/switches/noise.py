"""Simulated batch noise: what the sampling error of batch statistics does, without a batch."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

from normscope.nn.switches.switch import Option, Place, Stepped, Switch, check, is_count, per_channel

Kind: TypeAlias = Literal["scale_shift", "shift"]
Affine: TypeAlias = tuple[Tensor | None, Tensor | None]


def batch_noise(*, samples: int, kind: Kind = "scale_shift", shared: bool = True) -> Switch:
    r"""Scale and shift each channel at random after normalization and before gain and shift, in train mode only.

    .. math:: \hat z' = (1 + a) \hat z + b, \qquad a \sim N(0, 1/(2M)), \quad b \sim N(0, 1/M)

    with one a and b for each channel, the same for all examples and positions, drawn anew at every step: the errors of
    variance and mean over M = `samples` independent Gaussian values. A site whose gain w and shift c are one number per
    channel (every row of the table, torch's own norms) gets :math:`w \hat z' + c`. In one of any other make the
    noise acts on what leaves the site; so it does where a row normalizes in the affine layer (prelayernorm in blocks
    that normalize before it).

    The draws of a step depend on the network's seed and the step alone and are held in buffers, so that within a step
    the network is a fixed function and a resumed run repeats its noise. Step 0 is drawn when the network is made.

    Args:
        samples: M.
        kind: "scale_shift", or "shift" for b alone.
        shared: one key for all sites, so that sites of equal width get the same draw, as the paper has it; False draws
            each site's own.

    Raises:
        ValueError: `samples` is less than 1, an unknown kind, `shared` is not a truth value.

    Source: "Is Batch Norm unique?", arXiv:2010.10687, appendix A (noise after normalization, one seed through the
    network); the formula is lost in the copies at hand, so a, b and their sizes are a reconstruction.
    """
    check("batch_noise", "samples", samples, is_count(samples), "an integer of at least 1")
    check("batch_noise", "kind", kind, kind in get_args(Kind), f"one of {', '.join(get_args(Kind))}")
    check("batch_noise", "shared", shared, isinstance(shared, bool), "True or False")
    options: dict[str, Option] = {"samples": samples, "kind": kind, "shared": shared}
    formula = "z -> (1 + a) z + b" if kind == "scale_shift" else "z -> z + b"
    return Switch(
        name="batch_noise",
        formula=f"{formula} per channel and step, variances of {samples} samples",
        options=options,
        before_gain=True,
        at_site=lambda place: BatchNoise(place, samples=samples, kind=kind, shared=shared),
    )


@final
class BatchNoise(Stepped):
    """The noise at one site; see `batch_noise`. Buffers: `shift` (C,) is b, `scale` (C,) is a, if there is one."""

    scale: Tensor | None
    shift: Tensor

    def __init__(self, place: Place, *, samples: int, kind: Kind, shared: bool) -> None:
        super().__init__()
        self.place = place
        self.samples = samples
        self.shared = shared
        self.register_buffer("scale", torch.zeros(place.num_features) if kind == "scale_shift" else None)
        self.register_buffer("shift", torch.zeros(place.num_features))
        self.at_step(0)

    @torch.no_grad()
    def at_step(self, step: int) -> None:
        """See `Stepped`."""
        key = self.place.key("noise", step) if self.shared else self.place.key("noise", step, self.place.index)
        # On the CPU, so that every device sees the same draws.
        a, b = torch.randn(2, self.place.num_features, generator=torch.Generator().manual_seed(key))
        self.shift.copy_(b / math.sqrt(self.samples))
        if self.scale is not None:
            self.scale.copy_(a / math.sqrt(2 * self.samples))

    def forward(self, y: Tensor, _x: Tensor, affine: Affine) -> Tensor:
        """Return the site's output y, in train mode with noise."""
        if not self.training:
            return y
        weight, bias = affine
        shift = per_channel(self.shift, y, self.place.channel_dim)
        noise = shift if weight is None else weight * shift
        if self.scale is not None:
            scaled = y if bias is None else y - bias  # w z, of which a is a share
            noise = noise + per_channel(self.scale, y, self.place.channel_dim) * scaled
        return (y + noise).to(y.dtype)

    def extra_repr(self) -> str:
        """Samples and sharing."""
        return f"{self.place.num_features}, samples={self.samples}, shared={self.shared}"
