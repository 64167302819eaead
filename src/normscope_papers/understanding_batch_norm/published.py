"""What the papers publish as numbers, with the reason why ours may differ; shown beside results, never used as one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Effect
from normscope_papers.common.published import known, mean, published
from normscope_papers.common.rows import by_seed, effect, final_values, log, pick
from normscope_papers.understanding_batch_norm.experiments import block
from normscope_papers.understanding_batch_norm.rows import diverging_size

if TYPE_CHECKING:
    import pandas as pd

_READ = "Read off the figure."
_REMEMBERED = "Remembered, found in no source: a hint only."
_NETWORK = (
    "The network is a reconstruction (initialization, shortcuts); data order and, where the paper has one network, the "
    "draw differ."
)


def _accuracy(frame: pd.DataFrame, *, norm: str, lr: float) -> Effect | None:
    values = final_values(pick(frame, kind="train", normalizer=norm, lr=lr), "test_accuracy")
    return known(
        effect(f"final test accuracy, {norm} at {lr:g}", 100 * values.groupby("seed")["value"].mean(), unit="%")
    )


FIGURE_1 = tuple(
    published(
        f"Figure 1, final test accuracy at rate {lr:g}",
        norm,
        value,
        partial(_accuracy, norm=norm, lr=lr),
        f"{_READ} Of ResNet-110 after 165 epochs (without batch norm about 2,400, remembered); ours is what the record "
        "says, at laptop scale some epochs of a shallower network.",
        unit="%",
    )
    for norm, lr, value in (
        ("batchnorm", 0.1, 93.2),
        ("batchnorm", 0.003, 90.4),
        ("batchnorm", 0.0001, 81.2),
        ("none", 0.0001, 81.9),
    )
)


def _largest_entry(frame: pd.DataFrame, *, norm: str) -> Effect | None:
    rows = pick(frame, probe="gradient_histogram", name="largest", normalizer=norm)
    return mean("largest entry", rows)


FIGURE_2 = tuple(
    published("Figure 2, range of the entries", norm, value, partial(_largest_entry, norm=norm), f"{_READ} {_NETWORK}")
    for norm, value in (("batchnorm", 0.03), ("none", 4.0))
)


def _divergent(frame: pd.DataFrame, *, step: int) -> Effect | None:
    rows = pick(frame, probe="relative_loss", normalizer="none", step=step)
    return known(effect("smallest step size with a relative loss above 1,000", by_seed(rows, diverging_size)))


FIGURE_3 = tuple(
    published(
        f"Figure 3, step size of divergence, minibatch {step + 1}",
        "none",
        value,
        partial(_divergent, step=step),
        f"{_READ} There the step size at which the relative loss is 10^6, ours that of 10^3 on a grid. {_NETWORK} "
        "Its loss without batch norm begins at some hundreds of nats and grows faster with the step than the figure's, "
        "so that it diverges at smaller sizes.",
    )
    for step, value in ((0, 3e-3), (3, 5e-3), (6, 8e-3))
)


def _largest_channel(frame: pd.DataFrame, *, name: str, word: str, layer: int) -> Effect | None:
    place = f"{block(layer, depth=110)}@1"
    rows = pick(frame, probe="channel_moments_along_step", name=name, layer=place)
    return known(effect(f"largest {word}", rows["value"].abs().groupby(rows["seed"]).max()))


FIGURE_4 = tuple(
    published(
        f"Figure 4, largest {word} at the end of the step, layer {layer}",
        "none",
        value,
        partial(_largest_channel, name=name, word=word, layer=layer),
        f"{_READ} {more}The size of the paper's step is not said; ours is the first of a grid with a relative loss "
        f"above 1,000, and the paper's must be far beyond that. {_NETWORK}",
    )
    for name, word, more, values in (
        ("channel_mean", "|channel mean|", "", (1.0, 3e3, 3e8)),
        ("channel_variance", "channel variance", "That of layer 8 is at most this. ", (1.0, 5e6, 5e16)),
    )
    for layer, value in zip((8, 44, 80), values, strict=True)
)


def _log_moment(frame: pd.DataFrame, *, norm: str, name: str, layer: int) -> Effect | None:
    place = block(layer, depth=110)
    rows = pick(frame, probe="channel_moments", name=name, normalizer=norm, layer=place, step=0)
    return known(effect(f"ln of {name}", log(rows.groupby("seed")["value"].mean())))


_WORDS = {"std": "channel deviation", "mean": "|channel mean|"}

_SAW_TOOTH = (0.1, 0.6, 0.9, 0.05, 0.63, 0.97, 0.0, 0.57, 0.9)

FIGURE_5 = tuple(
    published(
        f"Figure 5, ln of the {_WORDS[name]}, layer {layer}",
        norm,
        value,
        partial(_log_moment, norm=norm, name=name, layer=layer),
        f"{_READ} Of one network; without batch norm draws differ by about one in the upper layers. {_NETWORK}",
    )
    for norm, name, values in (
        ("none", "std", {6: -1.3, 102: 3.0}),
        ("none", "mean", {6: -1.5, 102: 3.5}),
        (
            "batchnorm",
            "std",
            dict(zip(range(6, 103, 12), _SAW_TOOTH, strict=True)),
        ),
    )
    for layer, value in values.items()
)


def _label_entry(frame: pd.DataFrame, *, norm: str) -> Effect | None:
    rows = pick(frame, probe="logit_gradients", name="gradient", normalizer=norm)
    return known(effect("smallest entry", rows.groupby("seed")["value"].min()))


FIGURE_6 = (
    published(
        "Figure 6, entry of an image's own label",
        "none",
        -0.0078,
        partial(_label_entry, norm="none"),
        f"{_READ} It is -1/128 where the label has no probability at all; ours is the most negative entry. {_NETWORK}",
    ),
)


def _sum(frame: pd.DataFrame, *, norm: str, place: int, name: str) -> Effect | None:
    rows = pick(frame, probe="gradient_sums", name=name, normalizer=norm, depth=place)
    return mean(name, rows)


TABLE_1 = tuple(
    published(
        f"Table 1, {name}, layer {layer} (remembered)",
        norm,
        value,
        partial(_sum, norm=norm, place=place, name=name),
        f"{_REMEMBERED} Ours is a sum over images and pixels; what is remembered has the size of a mean over them, "
        f"which leaves a/b the same. {_NETWORK}",
    )
    for norm, columns in (
        ("batchnorm", ((7.5e-5, 3.0e-7, 251.8), (1.9e-5, 1.7e-7, 112.8), (6.6e-6, 1.6e-7, 40.7))),
        ("none", ((6.3e-5, 3.6e-5, 1.7), (2.2e-4, 8.4e-5, 2.6), (2.6e-4, 1.2e-4, 2.1))),
    )
    for place, (layer, values) in enumerate(zip((18, 54, 90), columns, strict=True), start=1)
    for name, value in zip(("a", "b", "a/b"), values, strict=True)
)


def _largest_singular(frame: pd.DataFrame, *, factors: int) -> Effect | None:
    rows = pick(frame, probe="gaussian_products", name="singular_value", layer=str(factors))
    return known(effect("largest singular value", rows.groupby("seed")["value"].max()))


FIGURE_8 = tuple(
    published(
        f"Figure 8, end of the histogram, {factors} {'matrix' if factors == 1 else 'matrices'}",
        "none",
        value,
        partial(_largest_singular, factors=factors),
        f"{_READ} The figure's range has one decimal place. No normalizer takes part.",
    )
    for factors, value in ((1, 2.0), (3, 3.1), (5, 3.9))
)


def _last_layer(frame: pd.DataFrame) -> Effect | None:
    rows = pick(frame, kind="train", condition="last layer")
    final = rows[rows["trial"].str.startswith("final-")]
    values = final_values(final, "test_accuracy")
    return known(effect("final test accuracy", 100 * values.groupby("seed")["value"].mean(), unit="%"))


LAST_LAYER = (
    published(
        "test accuracy with batch norm at the last layer (remembered)",
        "batchnorm",
        90.1,
        _last_layer,
        f"{_REMEMBERED} At rate 0.03, of ResNet-110; ours is what the record says.",
        unit="%",
    ),
)


def _largest_along(frame: pd.DataFrame, *, norm: str, name: str) -> Effect | None:
    rows = pick(frame, probe="loss_along_gradient", name=name, normalizer=norm, condition="vgg")
    return known(effect(f"largest {name}", rows.groupby("seed")["value"].max()))


_LANDSCAPE = (
    f"{_READ} Of 15,000 steps of a VGG whose sizes are not said; ours is what the record says, at laptop scale the "
    "first 400 of a narrow one, at every 40th."
)

SMOOTHNESS = tuple(
    published(
        f"Santurkar et al., Figure 4, largest {word} through training",
        norm,
        value,
        partial(_largest_along, norm=norm, name=name),
        _LANDSCAPE,
    )
    for norm, name, word, value in (
        ("none", "loss", "loss", 10.0),
        ("none", "gradient_distance", "distance of the gradient", 250.0),
        ("batchnorm", "gradient_distance", "distance of the gradient", 30.0),
        ("none", "smoothness", "effective smoothness", 45.0),
        ("batchnorm", "smoothness", "effective smoothness", 20.0),
    )
)


def _vgg_accuracy(frame: pd.DataFrame, *, norm: str) -> Effect | None:
    rows = pick(frame, kind="train", normalizer=norm, condition="")
    values = final_values(rows, "test_accuracy")
    return known(effect("final test accuracy", 100 * values.groupby("seed")["value"].mean(), unit="%"))


COVARIATE_SHIFT = tuple(
    published(
        "Santurkar et al., Figure 1, test accuracy of the VGG without augmentation",
        norm,
        value,
        partial(_vgg_accuracy, norm=norm),
        f"{_READ} After 15,000 steps of a VGG whose sizes are not said; ours is what the record says, at laptop scale "
        "300 of a narrow one.",
        unit="%",
    )
    for norm, value in (("batchnorm", 83.0), ("none", 80.0))
)
