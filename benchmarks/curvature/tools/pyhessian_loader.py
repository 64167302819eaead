"""PyHessian on a list of batches, the model put back into train mode after the constructor set eval mode.

Not what its README shows, but the one way to a train-mode Hessian: the graph is then made anew for each product.
"""

from __future__ import annotations

import pyhessian
from torch import Tensor, nn

from benchmarks.curvature.exact import flat
from benchmarks.curvature.problems import Batch
from benchmarks.curvature.tools import pyhessian_single
from benchmarks.curvature.tools.protocol import Meter


class Adapter(pyhessian_single.Adapter):
    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.meter = Meter()
        self.tool = pyhessian.hessian(model, nn.CrossEntropyLoss(), dataloader=[batch], cuda=False)
        model.train()
        self.sizes = [p.numel() for p in self.tool.params]
        self.tool.dataloader_hv_product = self.meter.wrap(self.tool.dataloader_hv_product)

    def product(self, v: Tensor) -> Tensor:
        return flat(self.tool.dataloader_hv_product(self.split(v))[1])
