"""For every claim a world in which its effect is a given number: the rows of one seed."""

from __future__ import annotations

import math

from papers.synthetic import Row, ended, row
from papers.worlds import World

Rows = list[Row]


def grid(item: str, norm: str, probe: str, name: str, curve: dict[float, float], **more: object) -> Rows:
    """Values along step sizes."""
    return [
        row(item, norm, probe, name, value, layer=repr(size), depth=place, **more)
        for place, (size, value) in enumerate(curve.items(), start=1)
    ]


def relative(item: str, norm: str, diverges_at: float, **more: object) -> Rows:
    """A relative loss that passes 1,000 at this step size, falls below it again, and passes it once more."""
    curve = {diverges_at / 10: 0.9, diverges_at: 2e3, 1.1 * diverges_at: 10.0, 1.2 * diverges_at: 5e3}
    return grid(item, norm, "relative_loss", "relative_loss", curve, **more)


LEARNING, GUESSING, DIVERGING = (886.0, 2.2, 2.2), (886.0, 2.1, 2.29), (2.0, 1.9)
"""Losses of deep networks: one that learns in the end, one that has stopped to; and of one that learns and diverges."""


def training(
    item: str, condition: str, lr: float, losses: tuple[float, ...], *, norm: str = "none", diverged: float = 0.0
) -> Rows:
    """One training with these losses."""
    more = {"condition": condition, "lr": lr}
    rows = [row(item, norm, "train", "loss", loss, step=step, **more) for step, loss in enumerate(losses, start=1)]
    return [*rows, row(item, norm, "outcome", "diverged", diverged, step=len(losses), **more)]


def trainings(item: str, condition: str, usable: float) -> Rows:
    """Without batch norm: a low rate that learns nothing yet, the usable one, one that guesses, one that diverges."""
    return [
        *training(item, condition, usable / 3, GUESSING),
        *training(item, condition, usable, LEARNING),
        *training(item, condition, 3 * usable, GUESSING),
        *training(item, condition, 9 * usable, DIVERGING, diverged=1.0),
    ]


def ablation(share: float, *, control: tuple[float, ...] = LEARNING) -> Rows:
    """Of 100 initializations so many learn at 0.03, where batch norm does; at 0.1 it does not, and all of them do."""
    rows = training("initializations", "batch norm", 0.03, control, norm="batchnorm")
    rows += training("initializations", "batch norm", 0.1, GUESSING, norm="batchnorm")
    for number in range(100):
        losses = LEARNING if number < round(100 * share) else GUESSING
        rows += training("initializations", f"rule {number}", 0.03, losses)
        rows += training("initializations", f"rule {number}", 0.1, LEARNING)
    return rows


def figure_1(
    batchnorm: tuple[float, ...] = (),
    none: tuple[float, ...] = (),
    lost: tuple[float, ...] = (),
    fits: tuple[float, float] = (95.0, 95.0),
) -> Rows:
    """Accuracies in per cent at 0.0001, 0.003 and 0.1, with training accuracies; without batch norm it may diverge."""
    rates = (0.0001, 0.003, 0.1)
    rows: Rows = []
    for norm, accuracies, fit in (("batchnorm", batchnorm, fits[0]), ("none", none, fits[1])):
        for lr, accuracy in zip(rates, accuracies, strict=False):
            rows += ended("fig1", norm, accuracy / 100, lr=lr)
            rows.append(row("fig1", norm, "evaluation", "train_accuracy", fit / 100, lr=lr, step=10))
    rows += [
        row("fig1", "none", "outcome", "diverged", value, lr=lr, step=5) for lr, value in zip(rates, lost, strict=False)
    ]
    return rows


def last_layer(everywhere: float, last: float, nowhere: float) -> Rows:
    """Accuracies in per cent; and a search whose better test accuracy is not to be seen."""
    rows = [
        found | {"trial": f"final-{found['trial']}"}
        for condition, norm, value in (
            ("everywhere", "batchnorm", everywhere),
            ("last layer", "batchnorm", last),
            ("nowhere", "none", nowhere),
        )
        for found in ended("last-layer", norm, value / 100, condition=condition)
    ]
    return [*rows, *ended("last-layer", "none", 0.99, condition="nowhere", lr=0.3)]


def noise(batch: float = -1.0, rate: float = 2.0, *, beside_bound: float = 1.0, beside_exact: float = 1.0) -> Rows:
    """Sampled noise with these exponents, and bound and exact value at these ratios of it; an earlier step differs."""
    rows: Rows = []
    for lr in (0.01, 0.1):
        for size in (1, 4, 16):
            sampled = 3.0 * lr**rate * size**batch
            more = {"layer": f"{lr:g}", "depth": size, "step": 10}
            rows += [
                row("noise", "none", "gradient_noise", "sampled", sampled, **more),
                row("noise", "none", "theory.gradient_noise", "bound", sampled / beside_bound, **more),
                row("noise", "none", "theory.gradient_noise", "without_replacement", sampled / beside_exact, **more),
                row("noise", "none", "gradient_noise", "sampled", 99.0, **more | {"step": 0}),
            ]
    return rows


def first_step(**sizes: float) -> Rows:
    """Figure 3: divergent step sizes at the first minibatch; at the fourth they are others."""
    return [
        found
        for norm, size in sizes.items()
        for step, factor in ((0, 1.0), (3, 7.0))
        for found in relative("fig3", norm, factor * size, step=step)
    ]


def largest_relative(power: float) -> Rows:
    curves = {0: {1e-3: 0.9, 0.1: 2.0}, 3: {1e-3: 0.5, 0.1: 10**power}}
    return [
        found
        for step, curve in curves.items()
        for found in grid("fig3", "batchnorm", "relative_loss", "relative_loss", curve, step=step)
    ]


def initializations(best: float) -> Rows:
    sizes = {"xavier": best, "he": best / 50}
    return [
        found
        for init, size in sizes.items()
        for found in relative("initializations", "none", size, kind="init", condition=init)
    ]


def growing(item: str, norm: str, name: str, factor: float, **more: object) -> Rows:
    """A moment of three blocks that grows by this factor in all, not evenly."""
    values = (2.0, 3.0, 2.0 * factor)
    return [
        row(item, norm, "channel_moments", name, value, layer=f"blocks.{place}", depth=place + 1, kind="init", **more)
        for place, value in enumerate(values)
    ] + (at_the_readout(item, norm, name, **more) if item == "fig5" else [])


def straight(left: float) -> Rows:
    """ln of the deviation whose variance a line in the layer leaves by this share: noise that is orthogonal to it."""
    line, bend = (-1.5, -0.5, 0.5, 1.5), (1.0, -1.0, -1.0, 1.0)
    scale = math.sqrt(left / (1 - left) * 5.0 / 4.0)
    return [
        row("fig5", "none", "channel_moments", "std", math.exp(x + scale * y), layer=f"blocks.{place}", kind="init")
        for place, (x, y) in enumerate(zip(line, bend, strict=True))
    ] + at_the_readout("fig5", "none", "std")


def at_the_readout(item: str, norm: str, name: str, **more: object) -> Rows:
    """A moment of the logits, which is no block's."""
    return [row(item, norm, "channel_moments", name, 1e9, layer="readout", depth=9, kind="init", **more)]


def stages(fall: float) -> Rows:
    """Two blocks in each of three stages, between which ln of the deviation falls by so much in the mean."""
    falls = (0.5 * fall, 1.5 * fall)
    logs = (0.0, 0.9, 0.9 - falls[0], 1.5, 1.5 - falls[1], 3.0)
    blocks = [
        row("fig5", "batchnorm", "channel_moments", "std", math.exp(x), layer=f"blocks.{place}", kind="init")
        for place, x in enumerate(logs)
    ]
    return blocks + at_the_readout("fig5", "batchnorm", "std")


def step_of_channels(values: dict[tuple[str, float], tuple[float, ...]], *, ratio: float = 2e3) -> Rows:
    """Channel means by module and share of a step with this relative loss."""
    return grid("fig4", "none", "relative_loss", "relative_loss", {1e-4: 0.9, 2e-4: ratio}, kind="init") + [
        row(
            "fig4",
            "none",
            "channel_moments_along_step",
            "channel_mean",
            value,
            layer=f"{module}@{share:g}",
            depth=channel,
            kind="init",
        )
        for (module, share), means in values.items()
        for channel, value in enumerate(means, start=1)
    ]


def late(share: float) -> Rows:
    return step_of_channels(
        {
            ("blocks.3", 1.0): (5.0, 5.0),
            ("blocks.39", 0.0): (5.0, 0.1),
            ("blocks.39", share / 2): (0.1, 0.1),
            ("blocks.39", share): (0.1, -2.0),
            ("blocks.39", 1.0): (-10.0, 0.1),
        }
    )


def channels(share: float) -> Rows:
    """At the end so many of 400 channels exceed a tenth of the largest; along the way all do."""
    many = round(400 * share)
    return step_of_channels(
        {("blocks.39", 0.5): (1.0,) * 400, ("blocks.39", 1.0): (-10.0,) * many + (0.5,) * (400 - many)}
    )


def gradient(name: str, **values: float) -> Rows:
    return [row("fig2", norm, "gradient_histogram", name, value, kind="init") for norm, value in values.items()]


def logits(**shares: float) -> Rows:
    """Of 400 images so many have their largest entry in class 1; the others in two more, half each."""
    rows: Rows = []
    for norm, share in shares.items():
        many = round(400 * share)
        for image in range(400):
            best = 1 if image < many else 2 + image % 2
            rows += [
                row(
                    "fig6", norm, "logit_gradients", "gradient", float(name == best), layer=str(name), depth=image + 1,
                    kind="init",
                )
                for name in (best, 4)
            ]  # fmt: skip
    return rows


def sums(**ratios: tuple[float, float]) -> Rows:
    """a/b in the first and the last convolution."""
    return [
        row("table1", norm, "gradient_sums", "a/b", value, layer=layer, depth=place, kind="init")
        for norm, values in ratios.items()
        for place, (layer, value) in enumerate(zip(("blocks.8.conv1", "blocks.44.conv1"), values, strict=True), start=1)
    ]


def singular(values: dict[int, tuple[float, ...]]) -> Rows:
    return [
        row("fig8", "none", "gaussian_products", "singular_value", value, layer=str(factors), depth=rank, kind="init")
        for factors, found in values.items()
        for rank, value in enumerate(found, start=1)
    ]


def edges(distance: float) -> Rows:
    law = [
        row("fig8", "none", "theory.gaussian_products", "largest", value, layer=layer, kind="init")
        for layer, value in (("1", 2.0), ("3", 3.0))
    ]
    return [*law, *singular({1: (2.0 * (1 + distance / 2), 1.0), 3: (3.0 * (1 - distance), 1.0)})]


def at_zero(distance: float, power: int) -> Rows:
    """Values whose distribution function is a power law, with a density of exponent -M/(M+1) + distance."""
    values = {}
    for factors in (1, 3, 5):
        exponent = 1 - factors / (factors + 1) + distance  # of the distribution function of the variable
        values[factors] = tuple((k / 200) ** (1 / exponent / power) for k in range(201))
    return singular(values)


def along(network: str, name: str, values: dict[str, tuple[float, ...]], *, step: int = 20) -> Rows:
    """A quantity at step sizes 0.05 and 0.4 of the item `smoothness`."""
    return [
        found
        for norm, curve in values.items()
        for found in grid(
            "smoothness",
            norm,
            "loss_along_gradient",
            name,
            dict(zip((0.05, 0.4), curve, strict=True)),
            step=step,
            condition=network,
        )
    ]


def smallest(share: float, network: str) -> Rows:
    """Of 400 steps, so many have their maximum at the smallest size."""
    many = round(400 * share)
    return [
        found
        for step in range(400)
        for found in along(network, "smoothness", {"none": (2.0, 1.0) if step < many else (1.0, 2.0)}, step=step)
    ]


def saturated(distance: float, network: str) -> Rows:
    """The median of three steps; the largest size is below the smallest."""
    values = (20.0 * math.exp(distance), 1e3, 1e-3)
    return [
        found
        for step, value in enumerate(values)
        for found in along(network, "smoothness", {"batchnorm": (value, value / 2)}, step=step)
    ]


def shifted(name: str, condition: str = "", **values: float) -> Rows:
    """Covariate shift at two layers and steps; the first layer has none."""
    rows: Rows = []
    for norm, value in values.items():
        for step, factor in ((0, 0.5), (30, 1.5)):
            rows += [
                row("covariate-shift", norm, "covariate_shift", name, value * factor, layer="b", depth=2, step=step),
                row("covariate-shift", norm, "covariate_shift", name, 99.0, layer="a", depth=1, step=step),
            ]
    return [found | {"condition": condition, "trial": f"{found['trial']}-{condition}"} for found in rows]


def variants(noisy: float = math.nan, **accuracies: float) -> Rows:
    """Final accuracies in per cent of the item `covariate-shift`; colons of labels are double underscores."""
    rows: Rows = []
    for name, value in accuracies.items():
        rows += ended("covariate-shift", name.replace("__", ":p="), value / 100)
    if not math.isnan(noisy):
        rows += ended("covariate-shift", "batchnorm", noisy / 100, condition="noisy batch norm")
    return rows


def through(network: str, name: str, values: dict[str, tuple[float, ...]]) -> Rows:
    """The same at three steps, of which the first has a tenth of it and the last has overflown without batch norm."""
    low = {norm: tuple(value / 10 for value in curve) for norm, curve in values.items()}
    high = {norm: (1.0, math.inf if norm == "none" else 1e9) for norm in values}
    steps = zip((0, 20, 40), (low, values, high), strict=True)
    return [found for step, curves in steps for found in along(network, name, curves, step=step)]


def _network_worlds(network: str) -> dict[str, World]:
    return {
        f"s01-{network}": World(
            lambda v: through(network, "loss", {"batchnorm": (2.0, 3.0), "none": (2.0, 2.0 + 10**v)}), -0.5, 1.5
        ),
        f"s02-{network}": World(
            lambda v: through(network, "gradient_distance", {"batchnorm": (1.0, 2.0), "none": (0.1, 2 * 10**v)}),
            0.1,
            1.0,
        ),
        f"s03-{network}": World(
            lambda v: through(network, "smoothness", {"batchnorm": (0.1, 2.0), "none": (0.1, 2 * 10**v)}), -0.5, 0.5
        ),
        f"s03-{network}-largest": World(
            lambda v: through(network, "smoothness", {"batchnorm": (9.0, 2.0), "none": (0.3, 2 * 10**v)}), -0.5, 0.5
        ),
    }


def _norm_worlds(label: str, name: str) -> dict[str, World]:
    return {
        f"s08-{name}-smooth": World(
            lambda v: [
                found
                for norm, largest in ((label, 2.0), ("none", 2 * 10**v))
                for step, factor in ((0, 0.1), (30, 1.0), (60, math.inf))
                for found in grid(
                    "covariate-shift",
                    norm,
                    "loss_along_gradient",
                    "gradient_distance",
                    {0.05: 0.01, 0.4: largest * factor},
                    step=step,
                )
            ],
            0.1,
            1.0,
        ),
        f"s08-{name}-accuracy": World(
            lambda v: variants(**{"batchnorm": 60.0, label.replace(":p=", "__"): 60.0 + v}), -9.0, -1.0
        ),
    }


WORLDS: dict[str, World] = {
    "c01-no-better": World(lambda v: figure_1((30.0, 50.0), (30.0 - v, 99.0)), 0.5, 9.0),
    "c01-no-worse": World(lambda v: figure_1((30.0, 50.0), (30.0 - v, 99.0)), -9.0, -0.5),
    "c02-highest": World(lambda v: figure_1((30.0, 50.0, 50.0 + v)), -5.0, 5.0),
    "c02-middle": World(lambda v: figure_1((30.0, 30.0 + v, 10.0)), -5.0, 5.0),
    "c02-diverges-highest": World(lambda v: figure_1(lost=(1.0, 1 - v, v)), 0.2, 0.9),
    "c02-diverges-middle": World(lambda v: figure_1(lost=(1.0, v, 1 - v)), 0.2, 0.9),
    "c03-batch": World(lambda v: noise(batch=-1.0 - v), 0.02, 0.5),
    "c03-rate": World(lambda v: noise(rate=2.0 + v), 0.02, 0.5),
    "c03-exact": World(lambda v: noise(beside_exact=math.exp(v)), 0.02, 0.5),
    "c04-none": World(lambda v: first_step(none=2.5e-3 * 10**v), 0.1, 1.5),
    "c04-batchnorm": World(largest_relative, 1.0, 4.0),
    "c04-margin": World(lambda v: first_step(batchnorm=1e-3 * 10**v, none=1e-3), 0.2, 2.0),
    "c12-usable": World(
        lambda v: trainings("depth", "depth 8", 1e-2 * 10**v) + trainings("depth", "depth 110", 1e-2), 0.0, 1.0
    ),
    "c12-divergent": World(
        lambda v: (
            relative("depth", "none", 1e-2 * 10**v, kind="init", condition="depth 8")
            + relative("depth", "none", 1e-2, kind="init", condition="depth 110")
        ),
        0.0,
        1.0,
    ),
    "c13-initializations": World(lambda v: initializations(10**v), -2.0, -0.5),
    "c13-rates": World(ablation, 0.02, 1.02),  # seeds differ by hundredths, which are single initializations
    "c13-scale": World(
        lambda v: (
            growing("initializations", "none", "std", 2.0 * math.exp(v), condition="he")
            + growing("initializations", "none", "std", 2.0, condition="xavier")
        ),
        0.5,
        5.0,
    ),
    "c05-upper": World(
        lambda v: step_of_channels(
            {
                ("blocks.3", 0.5): (1e9, 1.0),
                ("blocks.3", 1.0): (-2.0, 1.0),
                ("blocks.21", 1.0): (1e7, 1.0),
                ("blocks.39", 1.0): (1.0, 2.0 * 10**v),
            }
        ),
        1.0,
        6.0,
    ),
    "c05-grows": World(
        lambda v: step_of_channels(
            {
                ("blocks.3", 0.0): (2.0, 1.0),
                ("blocks.3", 0.5): (1e9, 1.0),
                ("blocks.3", 1.0): (1.0, -4.0),
                ("blocks.39", 0.0): (1.0, 50.0),
                ("blocks.39", 0.5): (1e-3, 1e-3),
                ("blocks.39", 1.0): (1.0, 100.0 * 10**v),
            }
        ),
        0.2,
        3.0,
    ),
    "c05-late": World(late, 0.3, 0.8),
    "c05-few": World(channels, 0.1, 0.8),
    "c06-std": World(lambda v: growing("fig5", "none", "std", math.exp(v)), 1.0, 4.0),
    "c06-mean": World(lambda v: growing("fig5", "none", "mean", math.exp(v)), 1.0, 4.0),
    "c06-exponential": World(straight, 0.02, 0.4),
    "c06-batchnorm-std": World(lambda v: growing("fig5", "batchnorm", "std", math.exp(v) / 2), 1.5, 3.0),
    "c06-batchnorm-mean": World(lambda v: growing("fig5", "batchnorm", "mean", math.exp(v) / 2), 1.5, 3.0),
    "c06-reset": World(stages, 0.1, 0.9),
    "c07-none": World(lambda v: gradient("excess_kurtosis", none=v, batchnorm=99.0), 1.0, 9.0),
    "c07-batchnorm": World(lambda v: gradient("excess_kurtosis", none=99.0, batchnorm=v), 0.1, 3.0),
    "c07-wider": World(lambda v: gradient("largest", none=2.0 * 10**v, batchnorm=2.0), 0.2, 2.0),
    "c08-none": World(lambda v: logits(none=v), 0.6, 0.95),
    "c08-batchnorm": World(lambda v: logits(none=0.9, batchnorm=0.9 - v), 0.0, 0.3),
    "c08-cosine": World(
        lambda v: [
            row("fig6", norm, "logit_gradients", "cosine", value, kind="init")
            for norm, value in (("batchnorm", 0.2), ("none", 0.2 + v))
        ],
        -0.1,
        0.3,
    ),
    "c09-batchnorm": World(lambda v: sums(batchnorm=(4 * v, v / 4), none=(2.0, 2.0)), 3.0, 50.0),
    "c09-none": World(lambda v: sums(batchnorm=(9.0, 9.0), none=(4 * v, v / 4)), 3.0, 50.0),
    "c09-more": World(lambda v: sums(batchnorm=(6 * 10**v, 6 * 10**v), none=(2.0, 18.0)), 0.1, 1.5),
    "c09-depth": World(lambda v: sums(batchnorm=(9 * math.exp(v), 9.0), none=(1.0, 1.0)), -1.0, 1.0),
    "c10-law": World(
        lambda v: [
            row("fig8", "none", "gaussian_products", "distance_to_law", value, layer=layer, kind="init")
            for layer, value in (("1", v / 2), ("5", v))
        ],
        0.01,
        0.09,
    ),
    "c10-edge": World(edges, 0.01, 0.2),
    "c10-condition": World(lambda v: singular({1: (2.0, 0.5), 3: (9.0, 1.0), 5: (4.0 * 10**v, 1.0)}), 1.0, 5.0),
    "c10-linear-paper": World(lambda v: singular({1: (2.0, 1.0), 3: (99.0, 1.0), 5: (2.0 * 5**v, 1.0)}), 0.4, 1.0),
    "c10-linear-theory": World(
        lambda v: singular({1: (2.0, 1.0), 3: (99.0, 1.0), 5: (2.0 * 5 ** (v / 2), 1.0)}), 0.4, 1.0
    ),
    "c10-zero-paper": World(lambda v: at_zero(v, 1), 0.02, 0.3),
    "c10-zero-theory": World(lambda v: at_zero(v, 2), 0.02, 0.3),
    "c11-gain": World(lambda v: last_layer(80.0, 50.0 + v, 50.0), -5.0, 5.0),
    "c11-share": World(lambda v: last_layer(80.0, 50.0 + 30.0 * (2 / 3 + v), 50.0), 0.05, 0.4),
    **_network_worlds("vgg"),
    **_network_worlds("dln"),
    "s04-saturates": World(lambda v: saturated(v, "vgg"), 0.2, 2.0),
    "s04-smallest": World(lambda v: smallest(v, "vgg"), 0.2, 0.8),
    "s05-accuracy": World(
        lambda v: (
            ended("smoothness", "batchnorm", 0.5 + v / 100, condition="vgg")
            + ended("smoothness", "none", 0.5, condition="vgg")
            + ended("smoothness", "none", 0.9, condition="dln")
        ),
        -5.0,
        5.0,
    ),
    "s06-noisy-none": World(lambda v: variants(noisy=50.0 + v, none=50.0, batchnorm=99.0), 0.5, 9.0),
    "s06-noisy-batchnorm": World(lambda v: variants(noisy=60.0 + v, none=99.0, batchnorm=60.0), -9.0, -1.0),
    "s07-distance-vgg": World(
        lambda v: (
            shifted("distance", batchnorm=2.0 * 10**v, none=2.0) + shifted("distance", "dln", batchnorm=9.0, none=2.0)
        ),
        -0.5,
        0.3,
    ),
    "s07-cosine-vgg": World(
        lambda v: shifted("cosine", batchnorm=0.3 + v, none=0.3) + shifted("cosine", "dln", batchnorm=0.9, none=0.1),
        0.02,
        0.4,
    ),
    "s07-distance-dln": World(
        lambda v: (
            shifted("distance", "dln", batchnorm=2.0 * 10**v, none=2.0) + shifted("distance", batchnorm=9.0, none=2.0)
        ),
        -0.5,
        0.3,
    ),
    "s07-cosine-dln": World(
        lambda v: shifted("cosine", "dln", batchnorm=0.3 + v, none=0.3) + shifted("cosine", batchnorm=0.9, none=0.1),
        0.02,
        0.4,
    ),
    **_norm_worlds("lpnorm:p=1", "l1"),
    **_norm_worlds("lpnorm:p=2", "l2"),
    **_norm_worlds("lpnorm:p=inf", "linf"),
    "s09-theorem-paper": World(
        lambda v: [
            row("smoothness", "batchnorm", "backward_identity", "violated", value, depth=depth, condition="vgg")
            for depth, value in ((1, 0.5 * v), (2, 1.5 * v))
        ],
        0.01,
        0.5,
    ),
    "s09-theorem-theory": World(
        lambda v: [
            row("smoothness", "batchnorm", "backward_identity", "error", value, depth=depth, condition="vgg")
            for depth, value in ((1, 0.5 * v), (2, 1.5 * v))
        ],
        0.001,
        0.1,
    ),
}
