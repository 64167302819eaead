"""Artificial chaos by the activation: ReLU with signs or without its mean, and the thresholded linear unit."""

from __future__ import annotations

from typing import Literal, TypeAlias, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.nn.functional import thresholded
from normscope.nn.sites.norm_propagation import RELU_MEAN
from normscope.nn.switches.switch import Place, Switch, check, per_channel

Kind: TypeAlias = Literal["random_sign", "mean_shifted"]


def signed_relu(*, kind: Kind = "random_sign") -> Switch:
    r"""A ReLU whose mean over the units of a layer is zero: a reconstruction, in two readings.

    .. math:: \text{random\_sign: } s_c \max(x, 0) \qquad \text{mean\_shifted: } \max(x, 0) - 1/\sqrt{2\pi}

    with fixed :math:`s_c = \pm 1`, drawn for each channel when the network is made. In mean-field theory random signs
    change nothing, since the weights that follow are symmetric: the slope of the correlation map at 1 stays 1
    (ordered). Shifting by the mean of unit Gaussians makes it :math:`\pi/(\pi-1) = 1.467`, Batch Norm's (chaotic).

    Args:
        kind: which reading.

    Raises:
        ValueError: an unknown kind.

    Source: "Is Batch Norm unique?", arXiv:2010.10687, appendix A, where the name is given and the formula is lost in
    the copies at hand. It is not the SignReLU of later work.
    """
    check("signed_relu", "kind", kind, kind in get_args(Kind), f"one of {', '.join(get_args(Kind))}")
    signed = kind == "random_sign"
    return Switch(
        name="signed_relu",
        formula="s_c max(x, 0), s_c = +1 or -1 at random" if signed else "max(x, 0) - 1/sqrt(2 pi)",
        options={"kind": kind},
        at_activation=SignedReLU if signed else lambda _place: MeanShiftedReLU(),
    )


def tlu() -> Switch:
    r"""Thresholded linear unit, :math:`\max(y, \tau_c)` with a threshold learned per channel, 0 at first (ReLU).

    With inputs of unit root mean square the slope of the correlation map at 1 is 1 at :math:`\tau = 0`, 1.17 at -0.5
    and 1.11 at -1.

    Source: Singh and Krishnan 2019, "Filter response normalization layer", arXiv:1911.09737, equation 9; as tried in
    "Is Batch Norm unique?", arXiv:2010.10687, appendix A.
    """
    return Switch(name="tlu", formula="max(y, tau_c), tau_c learned, 0 at first", options={}, at_activation=TLU)


@final
class SignedReLU(nn.Module):
    """Shape: any with C channels, in and out. Buffer `sign` (C,), +1 or -1; see `signed_relu`."""

    sign: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.channel_dim = place.channel_dim
        generator = torch.Generator().manual_seed(place.key("sign", place.index))
        self.register_buffer("sign", 2.0 * torch.randint(2, (place.num_features,), generator=generator) - 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """ReLU with signs."""
        return F.relu(x) * per_channel(self.sign, x, self.channel_dim).to(x.dtype)


@final
class MeanShiftedReLU(nn.Module):
    """Shape: any, in and out; see `signed_relu`."""

    def forward(self, x: Tensor) -> Tensor:
        """ReLU without its mean."""
        return F.relu(x) - RELU_MEAN


@final
class TLU(nn.Module):
    """Shape: any with C channels, in and out. Parameter `threshold` (C,); see `tlu`."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.channel_dim = place.channel_dim
        self.threshold = nn.Parameter(torch.zeros(place.num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Values, or the threshold where they are below it."""
        threshold = per_channel(self.threshold, x, self.channel_dim).to(x.dtype)
        return thresholded(x, threshold)
