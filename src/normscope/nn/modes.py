"""Which machinery is differentiating right now, asked before a fused kernel is chosen."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def differentiating_by_transform() -> bool:
    """Say whether a torch.func transform or a forward-mode level is active.

    Fused kernels are exact under reverse mode, however often it is nested. Under forward mode some have no rule
    (native_group_norm) and some are silently wrong below no_grad (layer_norm; batch_norm without running statistics),
    so the sites then compute from primitives. Neither fact has a public query in torch 2.13; a test holds both names.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
