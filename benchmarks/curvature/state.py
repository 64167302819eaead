"""What of a model may not change under a measurement."""

from __future__ import annotations

import copy

import torch
from torch import nn


class State:
    """The model as it was when this was made."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modes = [module.training for module in model.modules()]
        self.buffers = copy.deepcopy(dict(model.named_buffers()))
        self.parameters = copy.deepcopy([p.detach() for p in model.parameters()])

    def changes(self) -> list[str]:
        """Which of mode, buffers, gradients and parameters are another now."""
        model = self.model
        now = zip(model.parameters(), self.parameters, strict=True)
        found = {
            "mode": self.modes != [module.training for module in model.modules()],
            "buffers": any(not torch.equal(b, self.buffers[name]) for name, b in model.named_buffers()),
            "gradients": any(p.grad is not None for p in model.parameters()),
            "parameters": any(not torch.equal(p, q) for p, q in now),
        }
        return [what for what, changed in found.items() if changed]
