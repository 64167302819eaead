"""For every claim a world in which its effect is a given number: the rows of one seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .synthetic import Row, ended, row

Rows = list[Row]


@dataclass(frozen=True)
class World:
    """Rows in which the effect is v, and two values of v that lie clearly below and above the threshold."""

    rows: Callable[[float], Rows]
    below: float
    above: float


def propagation(item: str, **curves: tuple[float, ...]) -> Rows:
    """Correlations at sites 1, 2, ... of the untrained network."""
    return [
        row(item, norm, "information_propagation", "correlation", value, depth=depth, kind="init")
        for norm, curve in curves.items()
        for depth, value in enumerate(curve, start=1)
    ]


def norms(item: str, **growth: float) -> Rows:
    """Gradient norms at three sites whose squares grow by so much per layer, backwards."""
    return [
        row(item, norm, "gradient_norm", "norm", 3.0 * math.sqrt(factor) ** (3 - depth), depth=depth, kind="init")
        for norm, factor in growth.items()
        for depth in (1, 2, 3)
    ]


def through_steps(item: str, probe: str, name: str, **curves: tuple[float, ...]) -> Rows:
    """Values at steps 0, 50 and 100 of training."""
    return [
        row(item, norm, probe, name, value, step=step)
        for norm, curve in curves.items()
        for step, value in zip((0, 50, 100), curve, strict=False)
    ]


def final_layer(**curves: tuple[float, ...]) -> Rows:
    return through_steps("fig3", "information_propagation", "correlation", **curves)


def gradients(pairs: str, **values: float) -> Rows:
    """Gradient correlations in training; those at step 0 are not to be seen."""
    return through_steps("fig3", "gradient_correlation", pairs, **{norm: (-1.0, v, v) for norm, v in values.items()})


def layer_gradients(pairs: str, **values: float) -> Rows:
    return [
        row("fig1", norm, "gradient_correlation", pairs, value + shift, depth=depth, kind="init")
        for norm, value in values.items()
        for depth, shift in ((1, 0.01), (2, -0.01))
    ]


def spectrum(item: str, norm: str, step: int, *, ratio: float, largest: float = 2.0, negative: float = 0.1) -> Rows:
    """Two starts of twelve nodes, ascending: most negative, a bulk, nine at the tenth, the largest.

    The starts lie a tenth below and above what they are on average.
    """
    nodes: list[float] = []
    for share in (0.9, 1.1):
        first = largest * share
        nodes += [-negative * share * first, 0.0, *[first / (ratio * share)] * 9, first]
    return [
        row(item, norm, "spectrum", "node", node, step=step, depth=index) for index, node in enumerate(nodes, start=1)
    ]


def spectra(item: str = "fig4", *, step: int = 50, **ratios: float) -> Rows:
    return [found for norm, ratio in ratios.items() for found in spectrum(item, norm, step, ratio=ratio)]


def largest(**values: float) -> Rows:
    return [found for norm, v in values.items() for found in spectrum("fig4", norm, 50, ratio=3.0, largest=v)]


def sharpness(name: str, **curves: tuple[float, ...]) -> Rows:
    return through_steps("fig6", "sharpness", name, **curves)


def scores(column: str, batch_train: float = 0.6, **accuracies: float) -> Rows:
    """Table 3: chance 0.1 and final accuracies; those not given are 0.6, and 0.75 batchnorm's."""
    usual = dict.fromkeys(("layernorm", "prelayernorm", "regnorm", "preregnorm", "bmlv", "lmbv"), 0.6)
    rows = []
    for norm, accuracy in ({"batchnorm": 0.75} | usual | accuracies).items():
        rows.append(row("table3", norm, "evaluation", "validation_accuracy", 0.1, condition=column))
        rows += ended("table3", norm, accuracy, condition=column)
    by_batch = row(
        "table3", "batchnorm", "batch_size_accuracy", "test_accuracy", batch_train, condition=column, step=10
    )
    return [*rows, by_batch | {"depth": 64}]


def losses(**values: float) -> Rows:
    """Table 3's text column: an untrained loss of 8 nats, and final ones."""
    rows = []
    for norm, value in values.items():
        for name in ("validation_loss", "test_loss"):
            rows.append(row("table3", norm, "evaluation", name, value, condition="lm1b", step=10))
        rows.append(row("table3", norm, "evaluation", "validation_loss", 8.0, condition="lm1b"))
    return rows


def batches(running: Mapping[str, float], **by_size: tuple[float, float]) -> Rows:
    """Figure 5: accuracies with running statistics, and with those of test batches of 2 and of 512."""
    rows = []
    for norm, accuracy in running.items():
        rows += ended("fig5", norm, accuracy, condition="trained at 64")
    for norm, accuracies in by_size.items():
        for size, accuracy in zip((2, 512), accuracies, strict=True):
            found = row(
                "fig5", norm, "batch_size_accuracy", "test_accuracy", accuracy, condition="trained at 64", step=10
            )
            rows.append(found | {"depth": size})
            rows.append(found | {"depth": size, "condition": "trained at 16", "trial": "small", "value": 0.01})
    return rows


def failed(item: str, plain: str, gain: float, *, norm: str = "layernorm", baseline: str = "layernorm") -> Rows:
    """A variant that validation prefers, with this gain in points, and one that only test accuracy would prefer."""
    return [
        *ended(item, baseline, 0.5, condition=plain, validation=0.5),
        *ended(item, norm, 0.5 + gain / 100, condition="k=1.1", validation=0.6),
        *ended(item, norm, 0.99, condition="k=1.3", validation=0.4),
    ]


def minimized(left: float, *, lr: float = 3e-4, penalty: float = 0.1) -> Rows:
    """RegNorm's correlations and R at two sites, before and after R was minimized at this rate.

    So much of the distance to BMLV's correlations of 0.2 and 0.4 is left.
    """
    where = {"condition": f"lr={lr:g}", "lr": lr}
    return [
        row("propagation", "regnorm", probe, name, value, depth=depth, step=step, **where)
        for step, share, r in ((0, 1.0, 0.9), (50, 0.0, 0.0), (100, left, penalty))
        for depth, near in ((1, 0.2), (2, 0.4))
        for probe, name, value in (
            ("information_propagation", "correlation", near + 0.4 * share),
            ("penalty", "R", r * depth / 1.5),
        )
    ]


def rates(left: float) -> Rows:
    """Four rates, of which the third leaves the smallest R and so much of the distance; another is nearer to BMLV."""
    others = minimized(0.9, lr=1e-4, penalty=0.5) + minimized(0.8) + minimized(0.0, lr=3e-3, penalty=0.06)
    return others + minimized(left, lr=1e-3, penalty=0.05)


def minimized_growth(growth: float) -> Rows:
    rows = []
    for step, factor in ((0, 1.0), (100, growth)):
        for lr, grown in ((3e-4, factor), (1e-3, 9.0)):
            own = {"kind": "train", "lr": lr, "condition": f"lr={lr:g}", "step": step, "trial": f"lr={lr:g}"}
            rows += [found | own for found in norms("propagation", regnorm=grown)]
    return rows


def _correlation_worlds(item: str) -> dict[str, World]:
    return {
        f"c01-{item}": World(
            lambda v: propagation(item, batchnorm=(0.9, 0.5 - v), layernorm=(0.9, 0.5), weightnorm=(0.1, 0.7)),
            0.02,
            0.4,
        ),
        f"c02-bmlv-{item}": World(
            lambda v: propagation(item, batchnorm=(0.5, 0.5), bmlv=(0.5 + v, 0.5 - v)), 0.02, 0.3
        ),
        f"c02-lmbv-{item}": World(lambda v: propagation(item, batchnorm=(0.9, 0.5), lmbv=(0.1, 1 - 0.5 * v)), 0.1, 0.9),
        f"c06-init-{item}": World(
            lambda v: propagation(item, layernorm=(0.5, 0.5), regnorm=(0.5 + v, 0.5 - v)), 0.01, 0.3
        ),
    }


def _score_worlds(column: str) -> dict[str, World]:
    return {
        f"c12-best-{column}": World(lambda v: scores(column, batchnorm=0.7 + v / 100, regnorm=0.7), -5, 5),
        f"c12-batch-train-{column}": World(
            lambda v: scores(column, batch_train=0.6, regnorm=0.6 + v / 100, prelayernorm=0.7, preregnorm=0.7), -5, 5
        ),
        f"c12-layernorm-{column}": World(lambda v: scores(column, regnorm=0.6 + v / 100, prelayernorm=0.7), -5, 5),
        f"c12-pre-{column}": World(lambda v: scores(column, preregnorm=0.6 + v / 100), -5, 5),
    }


_RIVALS = {"layernorm": 0.7, "prelayernorm": 0.6, "weightnorm": 0.8}
_OTHERS = ("batchnorm", "weightnorm", "bmlv", "lmbv", "prelayernorm", "regnorm", "preregnorm")
_FREE = {"layernorm": 0.5, "prelayernorm": 0.6, "regnorm": 0.4}


def _accuracies(value: float) -> Rows:
    rows = []
    for norm in (*_OTHERS, "layernorm"):
        rows += ended("fig3", norm, value if norm == "lmbv" else 0.9, step=1000)
    return rows


def _lagging(value: float) -> Rows:
    curves = dict.fromkeys(_OTHERS, (0.1, 0.5, 0.5)) | {
        "lmbv": (0.1, 0.0, 0.0),
        "layernorm": (0.1, *[0.5 - value] * 2),
    }
    return through_steps("fig3", "evaluation", "test_accuracy", **curves)


def _late(value: float) -> Rows:
    rows = []
    for norm in ("batchnorm", "layernorm", "prelayernorm", "regnorm"):
        for step, ratio in ((0, 4.0), (50, 2.0), (100, 2.0 * math.exp(math.log(2) + value))):
            rows += spectrum("fig4", norm, step, ratio=ratio)
    return rows


def _skipping(value: float) -> Rows:
    four = {"batchnorm": 2.0, "layernorm": 9.0, "prelayernorm": 9.0, "regnorm": 9.0}
    return spectra("app5", **dict.fromkeys(four, 2.0)) + spectra("fig4", **four | {"batchnorm": 2.0 * math.exp(value)})


def _conditioned(value: float) -> Rows:
    return [
        row("logits", "none", "sharpness", "lambda_ratio", ratio, condition=condition, step=step)
        for step, factor in ((0, 5.0), (10, 1.0))
        for condition, ratio in (("plain", 2.0 * factor), ("both", 2.0 * math.exp(value) * factor**2))
    ]


def _penalty(value: float) -> Rows:
    return [
        row("app11", "regnorm", "penalty", "R", r * scale, step=step, depth=depth)
        for step, r in ((0, 0.8), (50, 0.1), (100, 0.8 * value))
        for depth, scale in ((1, 0.5), (2, 1.5))
    ]


WORLDS: dict[str, World] = {
    **_correlation_worlds("fig1"),
    **_correlation_worlds("fig2"),
    "c03-skips": World(
        lambda v: propagation("app1", batchnorm=(0.9, 0.3 + v)) + propagation("fig2", batchnorm=(0.9, 0.3)), 0.02, 0.4
    ),
    "c03-order": World(
        lambda v: propagation("app1", batchnorm=(0.9, 0.5 - v), layernorm=(0.9, 0.5), weightnorm=(0.1, 0.7)), -0.2, 0.2
    ),
    "c04-similar": World(
        lambda v: layer_gradients("similar", batchnorm=0.5 - v, layernorm=0.5, weightnorm=0.6), 0.02, 0.4
    ),
    "c04-independent": World(
        lambda v: layer_gradients("independent", batchnorm=0.5 - v, layernorm=0.5, weightnorm=0.6), 0.02, 0.4
    ),
    "c04-layernorm": World(lambda v: layer_gradients("similar", layernorm=v), 0.5, 0.95),
    "c05-batchnorm": World(lambda v: norms("fig2", batchnorm=v), 1.0, 1.45),
    "c05-bmlv": World(lambda v: norms("fig2", bmlv=v), 1.0, 1.45),
    "c05-more": World(lambda v: norms("fig2", batchnorm=1.0 + v, layernorm=1.0, weightnorm=0.9), 0.05, 0.5),
    "c05-skips": World(lambda v: norms("app2", batchnorm=v), 1.0, 1.3),
    "c06-minimized": World(
        lambda v: propagation("propagation", bmlv=(0.2, 0.4)) + minimized(v) + minimized(0.9, lr=1e-3, penalty=0.01),
        0.1,
        0.6,
    ),
    "c06-best-rate": World(lambda v: propagation("propagation", bmlv=(0.2, 0.4)) + rates(v), 0.1, 0.6),
    "c07-accuracy": World(_accuracies, 0.3, 0.7),
    "c07-layernorm": World(_lagging, 0.0, 0.2),
    "c08-low": World(lambda v: final_layer(batchnorm=(v, 0.9)), 0.2, 0.8),
    "c08-rise": World(lambda v: final_layer(batchnorm=(0.1, 0.1 + v, 0.05)), 0.02, 0.4),
    "c08-fall": World(lambda v: final_layer(batchnorm=(0.1, 0.6, 0.6 - v)), 0.01, 0.3),
    "c08-layernorm": World(lambda v: final_layer(layernorm=(0.99, v, 0.99)), 0.5, 0.95),
    "c08-prelayernorm": World(
        lambda v: final_layer(batchnorm=(0.3, 0.3), layernorm=(0.8, 0.8), prelayernorm=(0.8 - v, 0.8 - v)), -0.1, 0.2
    ),
    "c09-batchnorm": World(lambda v: gradients("similar", **_RIVALS, regnorm=0.5, batchnorm=0.5 - v), -0.1, 0.3),
    "c09-other-meaning": World(
        lambda v: gradients("independent", **_RIVALS, regnorm=0.5, batchnorm=0.8 + v), -0.1, 0.1
    ),
    "c09-bmlv": World(lambda v: gradients("similar", bmlv=0.5 + v, batchnorm=0.5), 0.01, 0.4),
    "c09-layernorm": World(
        lambda v: through_steps("fig3", "gradient_correlation", "similar", layernorm=(0.1, 0.2, v)), 0.5, 0.95
    ),
    "c09-prelayernorm": World(
        lambda v: gradients("similar", batchnorm=0.2, prelayernorm=0.2 + v, layernorm=0.8), -0.1, 0.2
    ),
    "c10-changed": World(
        lambda v: (
            spectrum("fig4", "batchnorm", 0, ratio=2.0, negative=0.5 + v)
            + spectrum("fig4", "batchnorm", 50, ratio=2.0, negative=0.5)
        ),
        0.05,
        0.4,
    ),
    "c10-late": World(_late, -0.5, 0.5),
    "c10-negative": World(lambda v: spectrum("fig4", "batchnorm", 50, ratio=2.0, negative=v), 0.05, 0.6),
    "c10-layernorm-outliers": World(lambda v: spectra(batchnorm=2.0, layernorm=2.0 * v), 0.6, 2.0),
    "c10-layernorm-small": World(lambda v: largest(batchnorm=2.0, layernorm=2.0 * v), 0.5, 2.0),
    "c10-prelayernorm": World(
        lambda v: spectra(batchnorm=2.0, layernorm=2.0 * math.e, prelayernorm=2.0 * math.exp(1 - v)), -0.5, 0.5
    ),
    "c11-suppression": World(
        lambda v: sharpness(
            "lambda_ratio",
            batchnorm=(9, 9, 2),
            bmlv=(9, 9, 2.5),
            prelayernorm=(9, 9, 3),
            regnorm=(9, 9, 2),
            layernorm=(1, 1, 3 * v),
        ),
        0.7,
        1.5,
    ),
    "c11-batchnorm": World(lambda v: sharpness("lambda_ratio", none=(1, 1, 4), batchnorm=(9, 9, 4 * v)), 0.5, 2.0),
    "c11-start": World(
        lambda v: sharpness(
            "lambda_max", layernorm=(1,), weightnorm=(5,), prelayernorm=(2,), regnorm=(3,), batchnorm=(5 * v, 99)
        ),
        0.5,
        2.0,
    ),
    "c11-falls": World(lambda v: sharpness("lambda_max", batchnorm=(10, 10 * v, 99)), 0.2, 0.9),
    "c11-similar": World(
        lambda v: sharpness(
            "lambda_max", batchnorm=(9, 9, 1), bmlv=(1, 9, v), prelayernorm=(1, 9, 1.1), regnorm=(1, 9, 1.2)
        ),
        1.5,
        6.0,
    ),
    "c11-layernorm": World(
        lambda v: sharpness("lambda_max", batchnorm=(2, 4, 8), layernorm=tuple(x * math.exp(v) for x in (2, 4, 8))),
        -1.0,
        1.0,
    ),
    "c11-weightnorm": World(
        lambda v: sharpness("lambda_ratio", none=(9, 9, 2), weightnorm=(1, 1, 2 * math.exp(v))), 0.05, 1.0
    ),
    "c11-skips": World(_skipping, -0.5, 0.5),
    **_score_worlds("cifar10"),
    **_score_worlds("resnet50"),
    **_score_worlds("resnet101"),
    "c13-prelayernorm": World(lambda v: losses(layernorm=4.0, prelayernorm=4.0 - v), -0.1, 0.1),
    "c13-none": World(lambda v: losses(layernorm=4.0, none=4.0 + v), 0.02, 0.5),
    "c13-lstm": World(
        lambda v: (
            ended("recurrent", "layernorm", 0.5, condition="lstm")
            + ended("recurrent", "prelayernorm", 0.5 + v / 100, condition="lstm")
        ),
        -5,
        5,
    ),
    "c13-gru": World(
        lambda v: (
            ended("recurrent", "layernorm", 0.5, condition="gru")
            + ended("recurrent", "prelayernorm", 0.5 + v / 100, condition="gru")
        ),
        -5,
        5,
    ),
    "c14-aggregated": World(
        lambda v: batches({"batchnorm": 0.6, "prelayernorm": 0.5}, batchnorm=(0.1, 0.6 - v / 100)), -5, 5
    ),
    "c14-size-batchnorm": World(lambda v: batches({"prelayernorm": 0.5}, batchnorm=(0.3, 0.3 + v / 100)), 0.1, 9),
    "c14-size-bmlv": World(lambda v: batches({"prelayernorm": 0.5}, bmlv=(0.3, 0.3 + v / 100)), 0.1, 9),
    "c14-size-lmbv": World(lambda v: batches({"prelayernorm": 0.5}, lmbv=(0.3, 0.3 + v / 100)), 0.1, 9),
    "c14-edge": World(lambda v: batches({**_FREE, "batchnorm": 0.6 + v / 100}, batchnorm=(0.1, 0.2)), -5, 5),
    "c14-no-edge": World(lambda v: batches({**_FREE, "batchnorm": 0.9}, batchnorm=(0.1, 0.6 + v / 100)), -5, 5),
    "c14-decorrelation": World(
        lambda v: [
            row(
                "fig5",
                "batchnorm",
                "information_propagation",
                "correlation",
                value,
                depth=2,
                kind="init",
                condition=f"batch {size}",
            )
            for size, value in ((4, 0.2), (16, 0.9), (256, 0.2 + v))
        ],
        0.02,
        0.5,
    ),
    "c15": World(_penalty, 0.1, 0.9),
    "c16-gradient-fixed": World(lambda v: failed("app9", "k=1", v), -5, 5),
    "c16-gradient-decayed": World(lambda v: failed("app10", "k=1", v), -5, 5),
    "c16-noise": World(lambda v: failed("batch-noise", "plain", v), -5, 5),
    "c16-chaos": World(lambda v: failed("chaos", "plain", v), -5, 5),
    "c16-logits-conditioning": World(lambda v: _conditioned(v), -0.5, 0.5),
    "c16-logits-generalization": World(
        lambda v: failed("logits", "plain", v, norm="none", baseline="batchnorm"), -5, 5
    ),
    "c16-variance": World(lambda v: failed("variance", "plain", v, norm="none", baseline="regnorm"), -5, 5),
    "c17-wrn-paper": World(lambda v: norms("fig2", prelayernorm=v), 1.0, 1.45),
    "c17-wrn-theory": World(lambda v: norms("fig2", prelayernorm=v), 1.0, 1.45),
    "c17-mlp-paper": World(lambda v: norms("fig1", prelayernorm=v), 1.0, 1.45),
    "c17-mlp-theory": World(lambda v: norms("fig1", prelayernorm=v), 1.0, 1.45),
    "c17-skips-paper": World(lambda v: norms("app2", prelayernorm=v), 1.0, 1.45),
    "c17-regnorm-paper": World(lambda v: norms("fig2", regnorm=v), 1.0, 1.45),
    "c17-regnorm-theory": World(minimized_growth, 1.0, 1.45),
    "c18-layernorm-paper": World(lambda v: final_layer(layernorm=(0.1, 0.1 + v, 0.05)), 0.02, 0.4),
    "c18-layernorm-theory": World(lambda v: final_layer(layernorm=(v, 0.9)), 0.5, 0.95),
    "c18-regnorm-paper": World(lambda v: final_layer(regnorm=(0.1, 0.1 + v, 0.05)), 0.02, 0.4),
    "c18-regnorm-theory": World(lambda v: final_layer(regnorm=(v, 0.9)), 0.5, 0.95),
}
