"""Singular values of products of Gaussian matrices: a measurement that looks at neither the network nor the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normscope import linalg, theory
from normscope.study import seeds
from normscope.study.measuring import Scene

_CLEAR_OF_THE_ENDS = 1e-3  # where a density diverges, or falls to 0 with infinite slope


def gaussian_products(scene: Scene, _model: nn.Module, step: int, *, factors: str, size: int) -> None:
    """Singular values of one product of each length, largest first in the column `depth`; `layer` holds the length.

    "distance_to_law" is the largest difference between their distribution function and that of the law for infinite
    size (Kolmogorov's).
    """
    for text in factors.split():
        generator = seeds.generator(scene.experiment.seed, "probe", step, int(text))
        values = linalg.product_singular_values(size, int(text), generator=generator)
        for rank, value in enumerate(values.sort(descending=True).values.tolist(), start=1):
            scene.rows.add("gaussian_products", "singular_value", value, step=step, layer=text, depth=rank)
        scene.rows.add("gaussian_products", "distance_to_law", _distance(values, int(text)), step=step, layer=text)


def fuss_catalan(scene: Scene, _model: nn.Module, step: int, *, factors: str, points: int) -> None:
    """The law for infinite size: densities of singular values and of their squares, and the largest of either.

    The column `layer` is length@value for a density, and the length for an end.
    """
    for text in factors.split():
        length = int(text)
        edge = float(theory.largest_singular_value(length))
        shares = torch.linspace(_CLEAR_OF_THE_ENDS, 1 - _CLEAR_OF_THE_ENDS, points, dtype=torch.float64).square()
        curves = {
            "density": (shares * edge, theory.singular_value_density(shares * edge, length)),
            "squared_density": (shares * edge**2, theory.fuss_catalan_density(shares * edge**2, length)),
        }
        for name, (places, densities) in curves.items():
            for place, (at, density) in enumerate(zip(places.tolist(), densities.tolist(), strict=True), start=1):
                scene.rows.add(
                    "theory.gaussian_products", name, density, step=step, layer=f"{text}@{at:.6g}", depth=place
                )
        scene.rows.add("theory.gaussian_products", "largest", edge, step=step, layer=text)
        scene.rows.add("theory.gaussian_products", "largest_square", edge**2, step=step, layer=text)


def _distance(values: Tensor, factors: int) -> float:
    law = theory.fuss_catalan_cdf(values.sort().values.square(), factors)
    below = torch.arange(len(values) + 1, dtype=torch.float64) / len(values)
    return float(torch.maximum(law - below[:-1], below[1:] - law).max())
