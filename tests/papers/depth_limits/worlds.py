"""For every claim a world in which its effect is a given number: the rows of one seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.papers.synthetic import Row, row

Rows = list[Row]

ROOT = "bnl2:moment=rms"


@dataclass(frozen=True)
class World:
    """Rows in which the effect is v, and two values of v that lie clearly below and above the threshold.

    `exact` is false of an effect that takes a few values only.
    """

    rows: Callable[[float], Rows]
    below: float
    above: float
    exact: bool = True


def start(item: str, probe: str, name: str, value: float, condition: str, *, depth: int = 0, norm: str = ROOT) -> Row:
    """A number of an untrained network."""
    return row(item, norm, probe, name, value, kind="init", condition=condition, depth=depth)


def gaps(width: int, values: Iterable[float], *, name: str = "gap", first: int = 1) -> Rows:
    """Gaps of figure 1 by layer, or theory's."""
    probe = "isometry_gap" if name == "gap" else "theory.isometry_gap"
    return [
        start("fig1", probe, name, value, f"width={width}", depth=depth)
        for depth, value in enumerate(values, start=first)
    ]


def decaying(width: int, k: float) -> Rows:
    return gaps(width, [1e-3 * math.exp(-layer / k) for layer in range(5)])


def rough(share: float, scale: float = 0.1) -> list[float]:
    """Four values of whose variance a straight line explains this share."""
    bend = scale * math.sqrt(5 / 4 * (1 / share - 1))
    return [-scale * x + bend * e for x, e in zip((1, 2, 3, 4), (1, -1, -1, 1), strict=True)]


def line(item: str, slope: float, condition: str = "", *, layer: int = 2, norm: str = ROOT) -> Rows:
    """Log norms of gradients against the depth of the network."""
    return [
        start(
            item,
            "weight_gradient_norm",
            "log_norm",
            0.3 + slope * layers,
            f"{condition} layers={layers}".strip(),
            depth=layer,
            norm=norm,
        )
        for layers in (10, 100, 300)
    ]


def theory_line(item: str, slope: float, condition: str) -> Rows:
    """Theory's log norms: growth from the last hidden layer on, whose own norm falls with the depth of the network."""
    return [
        start(item, "theory.weight_gradient_norm", "log_norm", value, f"{condition} layers={layers}", depth=depth)
        for layers in (10, 100, 300)
        for depth, value in ((2, -0.7 * layers + slope * (layers - 2)), (layers, -0.7 * layers))
    ]


def jacobian(difference: float, name: str) -> Rows:
    return [
        found
        for depth, by in ((1, difference - 0.01 * abs(difference)), (2, difference))
        for found in (
            start("fig1", "normalizer_jacobian", "log_norm", 1.0 + by, "width=10", depth=depth),
            start("fig1", "theory.normalizer_jacobian", name, 1.0, "width=10", depth=depth),
        )
    ]


def parts(symmetric: tuple[float, ...], antisymmetric: tuple[float, ...]) -> Rows:
    return [
        start("fig3", "gradient_symmetry", name, value, "weights=orthogonal layers=1000", depth=depth)
        for name, values in (("symmetric", symmetric), ("antisymmetric", antisymmetric))
        for depth, value in zip((2, 500, 1000), values, strict=True)
    ]


def last_gap(norm: str, name: str, gap: float, activation: str = "identity") -> Rows:
    """Gaps of networks of depth 10 and 1000; the deeper one counts."""
    return [
        start("g5", "isometry_gap", name, value, f"activation={activation} layers={layers}", depth=layers, norm=norm)
        for layers, value in ((10, 9.0), (1000, gap))
    ]


def beside_theory(activation: str, off: float) -> Rows:
    rate, condition = 0.1, f"activation={activation} exponent=0"
    theory = [
        start("fig5", "theory.weight_gradient_norm", "log_norm", value, f"{condition} layers=300", depth=depth)
        for depth, value in ((2, rate * 298), (300, 0.0))
    ]
    return line("fig5", rate * (1 + off), condition) + theory


def rates(of: Callable[[str, float, int], float]) -> Rows:
    """Rates of figure E1 by activation, gain and layer."""
    return [
        start(
            "e1",
            "explosion_rate",
            "rate",
            of(activation, gain, depth),
            f"activation={activation} gain={gain}",
            depth=depth,
        )
        for activation in ("sin", "tanh")
        for gain in (0.3, 0.6, 0.9)
        for depth in (100, 200)
    ]


def growing(exponent: float, slope: float) -> Rows:
    """Figure E2: growth over all layers that rises with the depth of the network, for tanh twice as fast."""
    found = []
    for activation, factor in (("sin", 1), ("tanh", 2)):
        for layers in (100, 500):
            condition = f"activation={activation} exponent={exponent} layers={layers}"
            for depth, value in ((2, 5.0 + factor * slope * layers), (layers, 5.0)):
                found.append(start("e2", "weight_gradient_norm", "log_norm", value, condition, depth=depth))
    return found


def beginning(exponent: float, rate: float) -> Rows:
    """Figure E2: the rate over the ten layers from the second weight on; tanh's is ten times as large."""
    return [
        start(
            "e2",
            "weight_gradient_norm",
            "log_norm",
            value,
            f"activation={activation} exponent={exponent} layers={layers}",
            depth=depth,
        )
        for activation, factor in (("sin", 1), ("tanh", 10))
        for layers in (100, 500)
        for depth, value in ((2, 1.0 + 10 * factor * rate), (12, 1.0), (layers, -3.0))
    ]


def rank(name: str, samples: int, share: float, data_set: str = "cifar10") -> Row:
    return start("d1", "batch_rank", name, share * samples, f"data_set={data_set} samples={samples}")


def by_copies(order: float) -> Rows:
    """Slopes in the order of the copies, or in the opposite one."""
    counts = (0, 1, 5, 20)
    slopes = counts if order > 0.5 else counts[::-1]
    return [
        found
        for copies, slope in zip(counts, slopes, strict=True)
        for found in line("repeated", 0.001 * slope, f"repeated={copies}")
    ]


def trained(
    item: str,
    activation: str,
    layers: int,
    probe: str,
    name: str,
    value: float,
    *,
    width: int = 2,
    at: int = 10,
    **more: int,
) -> Rows:
    """A number at step 0 and a later one of training; the second counts."""
    condition = f"activation={activation} width={width} layers={layers}"
    return [
        row(item, "batchnorm", probe, name, number, condition=condition, step=step, **more)
        for step, number in ((0, 0.123), (at, value))
    ]


def final(item: str, accuracies: dict[tuple[str, int], float], *, at: int = 10) -> Rows:
    return [
        found
        for (activation, layers), value in accuracies.items()
        for found in trained(item, activation, layers, "batch_accuracy", "train_accuracy", value, at=at)
    ]


def weights(item: str, layers: int, middle: float, ends: float, *, width: int = 2) -> Rows:
    """Log10 of gaps of the weights by layer: at the front as said, at the back ten times that."""
    found: Rows = []
    for depth in range(1, layers + 2):
        front, back = depth <= layers / 10 + 1, depth > 0.9 * layers
        value = {(True, False): ends, (False, True): ends + 1}.get((front, back), middle)
        outside = depth in (1, layers + 1)  # not square
        gap = 1e9 if outside else 10**value
        found += trained(item, "tanh", layers, "isometry_gap", "weight_gap", gap, depth=depth, width=width)
    return found


def turning(item: str, layers: int, middle: float, ends: float, *, width: int = 2) -> Rows:
    """Log10 of the symmetric over the antisymmetric part by layer, at two steps as far below as above what is said."""
    found: Rows = []
    for depth in range(2, layers + 1):
        front, back = depth <= layers / 10 + 1, depth > 0.9 * layers
        value = {(True, False): ends, (False, True): ends + 1}.get((front, back), middle)
        for step, off in ((5, -0.3), (10, 0.3)):
            for name, part in (("symmetric", 10 ** (value + (off if value == middle else 0))), ("antisymmetric", 1.0)):
                given = trained(
                    item, "tanh", layers, "gradient_symmetry", name, part, depth=depth, at=step, width=width
                )
                found += given if step == 10 else given[1:]
    return found


def gradients(item: str, least: float) -> Rows:
    values = {1: -99.0, 2: least + 1, 3: least, 20: least + 2, 21: -99.0}
    found = []
    for depth, value in values.items():
        found += trained(item, "tanh", 20, "weight_gradient_norm", "log_norm", value, depth=depth)
        found += trained(item, "tanh", 5, "weight_gradient_norm", "log_norm", -50.0, depth=depth)
    return found


def collapsed(item: str, over_chance: float, probe: str, name: str) -> Rows:
    chance = 0.01 if item == "g3" else 0.1
    deep = [
        found | {"step": 4500 * found["step"]}
        for found in trained(item, "identity", 500, probe, name, chance + over_chance)
    ]
    return deep + trained(item, "identity", 100, probe, name, 0.77) + trained(item, "tanh", 500, probe, name, 0.88)


def _line_worlds(width: int) -> World:
    def rows(v: float) -> Rows:
        first = 1e-4
        drawn = first * math.exp(-2 / (0.015 * width**2 * (1 + width * first)))
        other = 50 if width < 35 else 10
        return gaps(width, (first, first, drawn * math.exp(v))) + gaps(other, (first, first, 7.0))

    return World(rows, -0.5, 0.5)


def _law_world(item: str, condition: str, sizes: tuple[int, int, int]) -> World:
    """Of the first two theory has more than flat, and of the third, which no law fits, less."""

    def rows(v: float) -> Rows:
        found: Rows = []
        for size, slope, theory in zip(
            sizes, (0.02 * (1 - v), 0.01 * (1 + v / 2), 7.0), (0.02, 0.01, 1e-4), strict=True
        ):
            found += line(item, slope, condition.format(size)) + theory_line(item, theory, condition.format(size))
        return found

    return World(rows, 0.05, 0.8)


def _power_world() -> World:
    return World(lambda v: rates(lambda name, gain, _: 0.1 * gain ** (3 + (v if name == "sin" else -v / 2))), 0.2, 0.9)


def _collapse_worlds(item: str) -> dict[str, World]:
    return {
        f"s4-{item}-test": World(lambda v: collapsed(item, v, "evaluation", "test_accuracy"), 0.01, 0.5),
        f"s4-{item}-train": World(lambda v: collapsed(item, v, "batch_accuracy", "train_accuracy"), 0.01, 0.5),
        f"s4-{item}-batch": World(lambda v: collapsed(item, v, "batch_accuracy", "test_accuracy"), 0.01, 0.5),
    }


def _weight_worlds(item: str) -> dict[str, World]:
    return {
        f"c11-u-shape-{item}": World(
            lambda v: weights(item, 20, -4.0, -4.0 + v) + weights(item, 10, -9.0, -1.0), 0.1, 2.0
        ),
        f"c11-mechanism-{item}": World(
            lambda v: turning(item, 20, -2.0, -2.0 + v) + turning(item, 10, -9.0, -1.0), 0.1, 1.0
        ),
        f"c11-gradients-{item}": World(lambda v: gradients(item, v), -7.0, -1.0),
        f"c11-deeper-{item}": World(
            lambda v: weights(item, 20, -4.0, -1.0) + weights(item, 10, -4.0 + v, -1.0), -0.5, 0.5
        ),
    }


WORLDS: dict[str, World] = {
    "c01-monotone": World(lambda v: gaps(50, (1e-3, 5e-4, 5e-4 + v)), -1e-4, 1e-4),
    "c02-recursion": World(
        lambda v: gaps(50, (1e-3, 5e-4)) + gaps(50, (5e-4 - v,), name="recursion", first=2), 1e-12, 1e-3
    ),
    "c03-linear": World(lambda v: gaps(50, map(math.exp, rough(v))), 0.8, 0.985),
    "c03-rate": World(lambda v: decaying(50, -math.exp(v) / math.log1p(-2 / 52)), 0.1, 1.0),
    "c03-wider": World(lambda v: decaying(10, 1.0) + decaying(50, 20.0) + decaying(100, 20.0 * math.exp(v)), -0.5, 0.5),
    "c03-bound": World(
        lambda v: (
            gaps(50, (1e-3, 5e-4, 4e-4)) + gaps(50, (1e-3, 5e-4 * math.exp(-v), 4e-4 * math.exp(1 - v)), name="bound")
        ),
        -0.5,
        0.5,
    ),
    "c03-corollary-4": World(
        lambda v: (
            gaps(50, (1e-3, 5e-4, 4e-4, 3e-4))
            + gaps(50, (4e-4 / (1.1 + v), 3e-4 / (0.9 + v)), name="expected", first=3)
        ),
        -0.5,
        0.5,
    ),
    "c06-norm": World(lambda v: jacobian(v, "log_norm"), 0.001, 0.5),
    "c06-bound": World(lambda v: jacobian(v, "bound"), -0.1, 0.1),
    "c12-aligned": World(
        lambda v: [
            start("fig1", "aligned_isometry_gap", "gap", value, f"width={width}", depth=1)
            for width, value in ((10, v), (50, v / 2))
        ],
        1e-12,
        1e-2,
    ),
    "s1-line-wide": _line_worlds(50),
    "s1-line-narrow": _line_worlds(10),
    "c04-orthogonal": World(
        lambda v: line("fig3", -v, "weights=orthogonal") + line("fig3", 7.0, "weights=xavier"), 1e-4, 0.01
    ),
    "c04-gaussian": World(
        lambda v: line("fig3", v, "weights=xavier") + line("fig3", 7.0, "weights=orthogonal"), 0.001, 0.02
    ),
    "c04-linear": World(
        lambda v: [
            start("fig3", "weight_gradient_norm", "log_norm", value, f"weights=xavier layers={layers}", depth=2)
            for layers, value in enumerate(rough(v), start=1)
        ],
        0.8,
        0.985,
    ),
    "c05-repeated": World(lambda v: line("fig2", v, "repeated=50") + line("fig2", 7.0, "repeated=0"), 0.001, 0.05),
    "c05-full-rank": World(lambda v: line("fig2", -v, "repeated=0") + line("fig2", 7.0, "repeated=50"), 1e-4, 0.01),
    "c09-mean": World(
        lambda v: line("g6", 0.002 + v, layer=1, norm="batchnorm") + line("g6", 0.002, layer=1), 1e-4, 0.01
    ),
    "c11-antisymmetric": World(lambda v: parts((9.0, 0.5 * math.exp(v), 9.0), (1.0, 0.5, 1.0)), -3.0, -0.1),
    "c11-kept": World(lambda v: parts((1.0, 1.0, 1.0), (0.5 * math.exp(v), 0.5, 0.5 * math.exp(v / 2))), 0.2, 3.0),
    "s2-g5-standard": World(lambda v: last_gap("batchnorm", "uncentered_gap", -math.log(v)), 0.3, 0.95),
    "s2-g5-without-mean": World(lambda v: last_gap(ROOT, "gap", -math.log(v)), 0.3, 0.95),
    "s2-g5-null-left-out": World(lambda v: last_gap("batchnorm", "gap", -math.log(v)), 0.3, 0.95),
    "g5-plateau": World(lambda v: last_gap(ROOT, "gap", v, "sin") + last_gap(ROOT, "gap", 2 * v, "tanh"), 0.1, 1.0),
    "c07-sin": World(lambda v: beside_theory("sin", -v), 0.05, 0.5),
    "c07-tanh": World(lambda v: beside_theory("tanh", v), 0.05, 0.5),
    "c07-relu": World(lambda v: beside_theory("relu", v), 0.05, 0.5),
    "c07-coincide": World(
        lambda v: rates(
            lambda name, gain, layer: 0.1 * (1 + (v if name == "sin" else v / 2) * (0.5 if layer == 100 else -0.5))
        ),
        0.1,
        0.5,
    ),
    "c07-power-of-logarithms": _power_world(),
    "c07-power-of-rates": _power_world(),
    "c08-flat": World(
        lambda v: (
            line("fig5", -5.0, "activation=sin exponent=0.4")
            + line("fig5", v, "activation=tanh exponent=0.4")
            + line("fig5", 7.0, "activation=sin exponent=0")
            + line("fig5", 7.0, "activation=identity exponent=0.4")
        ),
        -0.01,
        0.01,
    ),
    "c08-no-vanishing": World(
        lambda v: (
            line("fig5", v, "activation=sin exponent=0.4")
            + line("fig5", 5.0, "activation=tanh exponent=0.4")
            + line("fig5", -7.0, "activation=sin exponent=0")
        ),
        -0.01,
        0.01,
    ),
    "c08-exponent-0.1": World(lambda v: growing(0.1, v) + growing(0.4, 7.0), 1e-4, 0.01),
    "c08-exponent-0.2": World(lambda v: growing(0.2, v) + growing(0.4, 7.0), 1e-4, 0.01),
    "c08-exponent-0.4": World(lambda v: growing(0.4, v / 2) + growing(0.2, 7.0), 1e-4, 0.01),
    "c08-0.4-beside-0.2": World(lambda v: growing(0.2, 0.02 + 2 * v) + growing(0.4, 0.01), -0.004, 0.004),
    "e2-falls": World(lambda v: beginning(0.1, 0.01 * math.exp(v)) + beginning(0.8, 0.01), 0.5, 3.0),
    "e2-level": World(lambda v: beginning(0.8, v) + beginning(0.1, 0.5), 0.005, 0.05),
    "s3-eq165-printed": World(
        lambda v: rates(lambda name, gain, _: (-v if name == "sin" else 0.02 - v) if gain == 0.9 else 9.0), -0.1, 0.1
    ),
    "s3-eq165-drawn": World(
        lambda v: rates(lambda name, gain, _: (v if name == "sin" else 0.02 + v) if gain == 0.9 else -9.0), -0.1, 0.1
    ),
    "d1-full-rank": World(
        lambda v: [
            rank("raw_rank_float32", 16, 2.0),
            rank("raw_rank_float32", 64, v),
            rank("raw_rank_float32", 128, 0.1),
        ],
        0.9,
        1.05,
    ),
    "s5-rank-tolerance": World(
        lambda v: [
            rank("raw_rank_float64", 512, 0.4 + v),
            rank("raw_rank_float32", 512, 0.4),
            rank("raw_rank_float64", 256, 9.0),
            rank("raw_rank_float64", 512, 9.0, "mnist"),
        ],
        0.1,
        0.5,
    ),
    "n1-fewer-samples": World(
        lambda v: (
            line("samples", 2 * v, "width=100 samples=50")
            + line("samples", v, "width=100 samples=75")
            + line("samples", -7.0, "width=100 samples=90")
            + line("samples", -7.0, "width=100 samples=100")
        ),
        1e-4,
        0.02,
    ),
    "n1-enough-samples": World(
        lambda v: (
            line("samples", 7.0, "width=100 samples=99")
            + line("samples", -v, "width=100 samples=100")
            + line("samples", v / 2, "width=100 samples=150")
        ),
        1e-4,
        0.02,
    ),
    "n1-law": _law_world("samples", "width=100 samples={}", (50, 75, 99)),
    "n2-law": _law_world("repeated", "repeated={}", (50, 25, 1)),
    "n2-by-deficit": World(by_copies, -1.0, 1.0, exact=False),
    "n2-one-copy": World(lambda v: line("repeated", v, "repeated=1") + line("repeated", 7.0, "repeated=2"), 1e-4, 0.02),
    "c10-depth": World(
        lambda v: (
            final("fig4", {("sin", 30): 0.5, ("sin", 100): 0.5 - v / 2, ("tanh", 30): 0.4, ("tanh", 100): 0.4}, at=20)
            + final("fig4", {("tanh", 30): 0.3, ("tanh", 500): 0.3 + v, ("identity", 500): 0.9})[1::2]
        ),
        0.01,
        0.3,
    ),
    "c10-activations": World(
        lambda v: (
            final(
                "fig4", {("sin", 100): 0.3 + v, ("tanh", 100): 0.4 + v, ("identity", 100): 0.3, ("identity", 30): 0.9}
            )
            + final("fig4", {("tanh", 500): 0.8, ("identity", 500): 0.9})
            + final("fig4", {("tanh", 100): 0.9}, at=20)[1:]
        ),
        0.05,
        0.5,
    ),
    **_weight_worlds("fig6"),
    **_weight_worlds("f1"),
    **_weight_worlds("f2"),
    **_collapse_worlds("g1"),
    **_collapse_worlds("g2"),
    **_collapse_worlds("g3"),
    **_collapse_worlds("g4"),
}
del WORLDS["c11-deeper-fig6"]  # of one depth
