"""What items that measure untrained networks share: their fields, and every normalizer with every seed."""

from __future__ import annotations

from dataclasses import dataclass

from normscope.study import Data, Measurement, Model, Norm
from normscope_papers.common.experiments import Stages, network, untrained
from normscope_papers.is_batch_norm_unique.experiments import wide_resnet


@dataclass(frozen=True, kw_only=True)
class Untrained:
    """The fields of such an item; the command line may set each of them.

    Attributes:
        seeds: how many: 0, 1, ...
        depth, width: of the network, as its family understands them.
    """

    data: str
    max_train: int | None
    norms: tuple[Norm, ...]
    seeds: int
    depth: int
    width: int
    batch_size: int

    def dense(self) -> Model:
        """The fully connected network."""
        return network("mlp", depth=self.depth, width=self.width)

    def wide_resnet(self, *, skips: bool) -> Model:
        """The WideResNet."""
        return wide_resnet(depth=self.depth, width=self.width, skips=skips)

    def measured(self, model: Model, *measurements: Measurement) -> Stages:
        """These measurements of the model; there is no second stage."""
        experiments = untrained(
            data=Data(name=self.data, max_train=self.max_train),
            model=model,
            norms=self.norms,
            seeds=self.seeds,
            batch_size=self.batch_size,
            measurements=measurements,
        )
        return experiments, None
