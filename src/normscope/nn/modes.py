"""Which machinery is differentiating right now, asked before a fused kernel is chosen."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def differentiating_by_transform() -> bool:
    """Say whether a torch.func transform or a forward-mode level is active.

    Fused kernels are exact under reverse mode, however often it is nested. Under forward mode not all have a rule
    (the backward of native_group_norm has none), so rather than track which kernel has a right one in which release
    the sites then compute from primitives. Neither fact has a public query in torch 2.13; tests hold both names.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
