"""What one normalization does to a batch: how much it can enlarge a gradient, how isometric it can leave the batch."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from normscope import linalg, probes
from normscope.probes.tap import sites
from normscope.study import depth_theory
from normscope.study.building import cross_entropy
from normscope.study.depth import Places
from normscope.study.depth_batches import subject
from normscope.study.due import tracks_running_statistics
from normscope.study.measuring import Scene


def normalizer_jacobian(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    layers: str = "",
    samples: int | None = None,
    repeated: int = 0,
    near_identity: float | None = None,
) -> None:
    r"""Log of the operator norm of a normalization's Jacobian at what enters the site, by its products with vectors.

    With theory for rows that divide each feature by its norm over the batch and do nothing else: the norm is
    :math:`1 / \min_i \|Z_i\|`, Z_i a feature over the batch, and at most :math:`\lambda_{\min}(Z Z^\top)^{-1/2}`;
    both times :math:`\sqrt n` where they divide by the root mean square.

    Raises:
        ValueError: a site keeps running statistics, so that it is more than a function of the batch.

    Source: Meterez et al. 2024, arXiv:2310.02012, appendix C.
    """
    on = subject(scene, model, step, samples=samples, repeated=repeated, near_identity=near_identity)
    for number, name, site, values in _entering(on, layers, scene.generator(step)):
        found = linalg.top_eigenpairs(_Squared(site, values), k=1, generator=scene.generator(step), tolerance=1e-4)
        numbers = {("normalizer_jacobian", "log_norm"): 0.5 * math.log(found.values[0].item())}
        size = depth_theory.norm_over_batch(scene.experiment, len(values))
        if size is not None:
            least = {"log_norm": torch.linalg.vector_norm(values, dim=0).min(), "bound": _least_singular_value(values)}
            numbers |= {("theory.normalizer_jacobian", kind): (size / z).log().item() for kind, z in least.items()}
        for (probe, kind), value in numbers.items():
            scene.rows.add(probe, kind, value, step=step, layer=name, depth=number, unit="nats")


def aligned_isometry_gap(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    layers: str = "",
    samples: int | None = None,
    repeated: int = 0,
    near_identity: float | None = None,
) -> None:
    r"""Isometry gap after one normalization of :math:`U^\top Z`, with Z = U S V^T what enters a site, as `gap`.

    A row that divides each feature by its norm over the batch makes it V^T: an isometry, in one layer.

    Source: Meterez et al. 2024, arXiv:2310.02012, corollary A.3.
    """
    on = subject(scene, model, step, samples=samples, repeated=repeated, near_identity=near_identity)
    for number, name, site, values in _entering(on, layers, scene.generator(step)):
        _, _, features = torch.linalg.svd(values, full_matrices=False)  # of the transpose: (samples, features)
        turned = probes.Subject(site, cross_entropy, (values @ features.mT, on.batch[1]))
        reading = probes.IsometryGap(select=lambda _name, _module: True)(turned, generator=scene.generator(step))
        gap = reading.values[0].item()
        scene.rows.add("aligned_isometry_gap", "gap", gap, step=step, layer=name, depth=number, unit="nats")


@final
@dataclass(frozen=True)
class _Squared:
    """J^T J of a module at a point, by products; J is its Jacobian."""

    module: nn.Module
    point: Tensor

    @property
    def size(self) -> int:
        return self.point.numel()

    @property
    def dtype(self) -> torch.dtype:
        return self.point.dtype

    @property
    def device(self) -> torch.device:
        return self.point.device

    def matvec(self, v: Tensor) -> Tensor:
        """One product forward, one back."""
        along = torch.func.jvp(self.module, (self.point,), (v.view_as(self.point),))[1]
        back = torch.func.vjp(self.module, self.point)[1]
        product: Tensor = back(along)[0]
        return product.flatten().detach()


def _entering(on: probes.Subject, layers: str, generator: torch.Generator) -> list[tuple[int, str, nn.Module, Tensor]]:
    """Number, name, a copy of the site in train mode, and what enters it in float64: (samples, features)."""
    every = sites(on.model)
    places = Places.of(every, layers)
    wanted = {name: every[name] for name in places.names}
    for name, site in wanted.items():
        if tracks_running_statistics(site):
            raise ValueError(f"the site {name} keeps running statistics; ask for it with a row that has none, as bnl2.")
    found = depth_theory.entering(on, wanted, generator)
    return [
        (number, name, copy.deepcopy(wanted[name]).train().double(), found[name])
        for number, name in zip(places.numbers, places.names, strict=True)
    ]


def _least_singular_value(values: Tensor) -> Tensor:
    """Of (samples, features) as a map from features: 0 where there are fewer samples than features."""
    samples, features = values.shape
    return torch.linalg.svdvals(values)[-1] if samples >= features else values.new_zeros(())
