"""Filter response normalization with its thresholded linear unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from normscope.nn import functional
from normscope.nn.kernels import suits_cpu
from normscope.nn.kernels.filter_response import FilterResponseKernel, Response, filter_response
from normscope.nn.layout import Layout, description, furnish

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer

_INITIAL_EPS = 1e-4


@final
class FilterResponse(nn.Module):
    r"""Divide each channel of each example by its root mean square over the positions; gain, shift, threshold.

    .. math:: y = \max\Big(w_c \frac{x}{\sqrt{\mathrm{mean}_{HW}\,x^2 + \epsilon + |\epsilon_l|}} + b_c,\; \tau_c\Big)

    :math:`\tau_c` is learned, 0 at first, when the function is a ReLU. The paper has the threshold in place of the
    activation; before a model's own ReLU the two compose to :math:`\max(\cdot, \tau_c, 0)`, so a threshold below 0
    does nothing there and one above 0 acts; give a model whose activation is the identity for the paper's layer, or
    take ``tlu=False`` and the model's own. :math:`\epsilon_l` is one learned number, 1e-4 at first: with one position
    the quotient would else be the sign of x. By default (``learned_eps=None``) it is there exactly where the layout has
    no positions, (N, C), as in the paper's fully connected layers; True and False say so for every layout.

    Shape: (N, C), (N, T, C) with positions T, or (N, C, H, W), as `ndim` says, in and out; dtype kept, statistics in
    float32 or wider.

    Attributes:
        weight, bias: (C,), present if the row's `elementwise_affine` is on.
        threshold: (C,), present with ``tlu``.
        learned_eps: 0-dim, where it is learned.

    Raises:
        ValueError: wrong shape or dtype.

    Source: Singh and Krishnan 2019, arXiv:1911.09737, equations 1 to 3 and 9, and section 3.2.
    """

    row: Normalizer
    layout: Layout
    weight: Tensor | None
    bias: Tensor | None
    threshold: Tensor | None
    learned_eps: Tensor | None

    couples_batch = False

    def __init__(
        self,
        row: Normalizer,
        num_features: int,
        *,
        ndim: int = 4,
        channel_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        furnish(self, row, Layout(row.name, num_features, ndim, channel_dim), device=device, dtype=dtype)
        dims, batch_dims = (functional.reduced_dims(over, ndim, channel_dim) for over in ("instance", "batch"))
        self._response = Response(dims, batch_dims, row.eps)
        learned = row.setting("learned_eps")

        def parameter(*shape: int, value: float, wanted: bool) -> nn.Parameter | None:
            return nn.Parameter(torch.full(shape, value, device=device, dtype=dtype)) if wanted else None

        self.register_parameter("threshold", parameter(num_features, value=0.0, wanted=row.setting("tlu")))
        wanted = not dims if learned is None else learned
        self.register_parameter("learned_eps", parameter(value=_INITIAL_EPS, wanted=wanted))

    @staticmethod
    def couples(_row: Normalizer) -> bool:
        """Whether a site of this row couples the examples of a batch in train mode."""
        return False

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        self.layout.check(x)
        per_channel = self.layout.per_channel
        parameters = (per_channel(self.weight), per_channel(self.bias), per_channel(self.threshold), self.learned_eps)
        if x.numel() and suits_cpu(x, *parameters):
            y: Tensor = FilterResponseKernel.apply(x, *parameters, self._response)  # type: ignore[no-untyped-call]
            return y
        return filter_response(x, *parameters, self._response)

    def extra_repr(self) -> str:
        """Row, features and layout."""
        return description(self.row, self.layout)
