"""Noisy normalization: distributions that shift at every step on purpose, by noise behind each site."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from normscope.nn.functional import accumulation_dtype
from normscope.nn.switches.switch import Option, Place, Stepped, Switch, check, is_finite


def noisy_batch_norm(
    *, shift: float = 0.5, scale: float = 1.25, sample_shift: float = 0.1, sample_scale: float = 0.1
) -> Switch:
    r"""Scale and shift every example's channels at random behind each site, by distributions that change at every step.

    .. math:: y'_{i,c} = s_{i,c} \, y_{i,c} + m_{i,c}, \qquad
              m_{i,c} \sim U(\mu_c - r_\mu, \mu_c + r_\mu), \quad s_{i,c} \sim N(\sigma_c, r_\sigma^2), \qquad
              \mu_c \sim U(-n_\mu, n_\mu), \quad \sigma_c \sim U(1, n_\sigma)

    in train mode, with :math:`\mu_c, \sigma_c` of each channel and :math:`m_{i,c}, s_{i,c}` of each example i and
    channel, the same at all positions, all drawn anew at every step and for each site by itself. It acts on what leaves
    the site, gain and shift included. Behind batch normalization it takes away what it gave: means and variances that
    stay.

    The draws of a step depend on the network's seed, the step, the site and the number of examples alone, so that
    within a step the network is a fixed function of a batch and a resumed run repeats its noise. The step is held in a
    buffer; step 0 is that of the network as it is made.

    Args:
        shift: n_μ.
        scale: n_σ, at least 1.
        sample_shift: r_μ.
        sample_scale: r_σ, a standard deviation.

    Raises:
        ValueError: a value is not finite, negative, or `scale` is below 1.

    Source: Santurkar et al., "How does batch normalization help optimization?", arXiv:1805.11604, algorithm 1, with the
    values of its appendix as defaults. That a unit is a channel and N(σ, r_σ) gives a standard deviation is a
    reconstruction.
    """
    options: dict[str, Option] = {
        "shift": shift,
        "scale": scale,
        "sample_shift": sample_shift,
        "sample_scale": sample_scale,
    }
    for option, value in options.items():
        least = 1 if option == "scale" else 0
        right = is_finite(value) and value >= least  # type: ignore[operator]  # is_finite: a number
        check("noisy_batch_norm", option, value, right, f"a finite number of at least {least}")
    return Switch(
        name="noisy_batch_norm",
        formula=f"y -> s y + m per example and channel, m about U(-{shift:g}, {shift:g}), s about U(1, {scale:g})",
        options=options,
        at_site=lambda place: NoisyBatchNorm(place, shift, scale, sample_shift, sample_scale),
    )


@final
class NoisyBatchNorm(Stepped):
    """The noise at one site; see `noisy_batch_norm`. The buffer `step` says which draws are in force."""

    step: Tensor

    def __init__(self, place: Place, shift: float, scale: float, sample_shift: float, sample_scale: float) -> None:
        super().__init__()
        self.place = place
        self.shift = shift
        self.scale = scale
        self.sample_shift = sample_shift
        self.sample_scale = sample_scale
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def at_step(self, step: int) -> None:
        """See `Stepped`."""
        self.step.fill_(step)

    def forward(self, y: Tensor, _x: Tensor, _affine: object) -> Tensor:
        """Return the site's output y, in train mode with noise."""
        if not self.training:
            return y
        dtype = accumulation_dtype(y.dtype)
        axis = self.place.channel_dim % y.ndim
        shape = [size if d in (0, axis) else 1 for d, size in enumerate(y.shape)]
        scale, shift = (drawn.to(y.device, dtype).view(shape) for drawn in self.draw(y.shape[0]))
        return torch.addcmul(shift, scale, y.to(dtype)).to(y.dtype)

    def draw(self, examples: int) -> tuple[Tensor, Tensor]:
        """S and m of the present step for so many examples: (examples, C) each, on the CPU for every device alike."""
        key = self.place.key("noisy", int(self.step), self.place.index)
        generator = torch.Generator().manual_seed(key)
        channels = self.place.num_features
        # In float32 whatever the default: the generator's numbers go with the dtype.
        mu, sigma = torch.rand(2, channels, generator=generator, dtype=torch.float32)
        within = 2 * torch.rand(examples, channels, generator=generator, dtype=torch.float32) - 1
        around = torch.randn(examples, channels, generator=generator, dtype=torch.float32)
        mean = self.shift * (2 * mu - 1) + self.sample_shift * within
        scale = 1 + (self.scale - 1) * sigma + self.sample_scale * around
        return scale, mean

    def extra_repr(self) -> str:
        """The sizes of the noise."""
        return (
            f"{self.place.num_features}, shift={self.shift}, scale={self.scale}, "
            f"sample_shift={self.sample_shift}, sample_scale={self.sample_scale}"
        )
