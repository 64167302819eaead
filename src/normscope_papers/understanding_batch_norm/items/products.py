"""Figures 7 and 8: singular values of products of Gaussian matrices, beside the law for infinite size."""

from __future__ import annotations

from normscope.study import Data, Experiment, Item, Measurement, Norm
from normscope_papers.common.data_sets import DIGITS
from normscope_papers.common.experiments import Fields, Stages, identifier, measured, network
from normscope_papers.understanding_batch_norm import published, tables
from normscope_papers.understanding_batch_norm.experiments import at_least
from normscope_papers.understanding_batch_norm.figures import products as figures


def densities(*, factors: tuple[int, ...], points: int) -> Stages:
    """Figure 7: the theoretical densities alone."""
    return _untouched([0], fuss_catalan(factors, points)), None


def products(*, factors: tuple[int, ...], points: int, size: int, seeds: int) -> Stages:
    """Figure 8: singular values of one product of each length a seed, and the theoretical densities."""
    at_least(1, size=size)
    sampled = measured("gaussian_products", 0, factors=_listed(factors), size=size)
    return _untouched(range(seeds), sampled, fuss_catalan(factors, points)), None


def fuss_catalan(factors: tuple[int, ...], points: int) -> Measurement:
    """The theoretical densities at so many places each."""
    at_least(2, points=points)
    for number in factors:
        at_least(1, factors=number)
    return measured("fuss_catalan", 0, factors=_listed(factors), points=points)


def _listed(factors: tuple[int, ...]) -> str:
    return " ".join(map(str, factors))


def _untouched(seeds: range | list[int], *measurements: Measurement) -> tuple[Experiment, ...]:
    """An experiment a seed, whose network of one unit is the least there is: these measurements never look at it."""
    return tuple(
        Experiment(
            id=identifier("matrices", f"seed{seed}"),
            data=Data(name=DIGITS, max_train=20),
            model=network("mlp", depth=1, width=1),
            norm=Norm("none"),
            seed=seed,
            batch_size=1,
            measurements=measurements,
        )
        for seed in seeds
    )


_NO_NETWORK = (
    "No network and no data take part: the experiment has them because every experiment has, and the measurement looks "
    "at neither. A seed is one draw of the matrices."
)
_DENSITIES = {"factors": (1, 2, 3, 5, 10), "points": 200}
_PRODUCTS: Fields = {
    "smoke": {"factors": (1, 3, 5), "points": 50, "size": 60, "seeds": 2},
    "laptop": {"factors": (1, 3, 5), "points": 200, "size": 1000, "seeds": 10},
    "paper": {"factors": (1, 3, 5), "points": 200, "size": 1000, "seeds": 10},
}

ITEMS: tuple[Item, ...] = (
    Item(
        name="fig7",
        title="Density of singular values of long products of Gaussian matrices, theory",
        source="Figure 7",
        # Drawing is what it costs, by the panel: one for each number of factors.
        fields={"smoke": {"factors": (1, 3), "points": 50}, "laptop": _DENSITIES, "paper": _DENSITIES},
        study=densities,
        figures=figures.densities,
        notes=(
            "The Fuss-Catalan law, in its parametric form [D]; the paper's own figure was not at hand, and the lengths "
            "drawn are ours.",
            "The paper calls its variable the singular value; its exponent and its edge are those of the square. Both "
            "densities are drawn.",
            _NO_NETWORK,
            "laptop: the same curves; smoke: two of them, of fewer points.",
        ),
    ),
    Item(
        name="fig8",
        title="Singular values of products of Gaussian matrices",
        source="Figure 8",
        fields=_PRODUCTS,
        study=products,
        figures=figures.products,
        tables=tables.products,
        published=published.FIGURE_8,
        notes=(
            "Entries have variance 1 / N. The paper's sizes are remembered [M]: N = 1,000, ten products of each "
            "length.",
            _NO_NETWORK,
            "laptop: the paper's own size. smoke: N = 60, two products of each length.",
        ),
    ),
)
