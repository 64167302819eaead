"""torch's own `torch.func.linearize` of the gradient: no tool, but the machinery a product can be compared with."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, linearize

from benchmarks.curvature.exact import flat
from benchmarks.curvature.problems import Batch
from benchmarks.curvature.tools.protocol import Meter, Tool


class Adapter(Tool):
    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.meter = Meter()
        self.parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

        def loss(parameters: dict[str, Tensor]) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            outputs = functional_call(model, {**parameters, **buffers}, (batch[0],))
            return F.cross_entropy(outputs, batch[1])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, self.tangent = linearize(grad(loss), self.parameters)

    def product(self, v: Tensor) -> Tensor:
        sizes = [parameter.numel() for parameter in self.parameters.values()]
        pieces = zip(self.parameters.items(), torch.split(v, sizes), strict=True)
        tangents = {name: piece.view_as(parameter) for (name, parameter), piece in pieces}
        return flat(tuple(self.tangent(tangents).values()))
