"""BackPACK's hessianfree products; it has no spectral algorithm to go with them."""

from __future__ import annotations

import torch
from backpack.hessianfree.ggnvp import ggn_vector_product
from backpack.hessianfree.hvp import hessian_vector_product
from torch import Tensor, nn

from benchmarks.curvature.exact import flat
from benchmarks.curvature.problems import Batch
from benchmarks.curvature.tools.protocol import Meter, Tool


class Adapter(Tool):
    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.meter = Meter()
        self.model, self.batch = model, batch
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.sizes = [p.numel() for p in self.parameters]
        self.size, self.dtype = sum(self.sizes), self.parameters[0].dtype
        self.criterion = nn.CrossEntropyLoss()
        self.loss = self.criterion(model(batch[0]), batch[1])
        # Given the gradient with its graph, a product saves the first of two backward passes.
        self.gradient = torch.autograd.grad(self.loss, self.parameters, create_graph=True)
        self.metered = self.meter.wrap(hessian_vector_product)

    def split(self, v: Tensor) -> list[Tensor]:
        return [piece.view_as(p) for piece, p in zip(v.split(self.sizes), self.parameters, strict=True)]

    def product(self, v: Tensor) -> Tensor:
        return flat(self.metered(self.loss, self.parameters, self.split(v), grad_params=self.gradient))

    def ggn(self, v: Tensor) -> Tensor:
        outputs = self.model(self.batch[0])
        loss = self.criterion(outputs, self.batch[1])
        return flat(ggn_vector_product(loss, outputs, self.model, self.split(v)))
