"""Figures 1 and 2 of the paper and their twins with skip connections: signal and gradients by depth, untrained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from normscope.study import Item, Measurement
from normscope_papers.common.data_sets import CIFAR10, DIGITS, MNIST
from normscope_papers.common.experiments import Fields, Stages, measured, named
from normscope_papers.is_batch_norm_unique import figures, notes
from normscope_papers.is_batch_norm_unique.experiments import NINE
from normscope_papers.is_batch_norm_unique.untrained import Untrained


def dense(*, batches: int, noise: float, **fields: Any) -> Stages:
    """Figure 1: the fully connected ReLU network; every measurement by depth."""
    setting = Untrained(**fields)
    return setting.measured(
        setting.dense(),
        signal(batches, noise, theory=True),
        _gradient_correlation("similar", batches, noise),
        _gradient_correlation("independent", max(2, batches), noise),  # two batches make one pair
        gradient_norm(batches, theory=True),
    )


def signal(batches: int, noise: float, *, theory: bool) -> Measurement:
    """Correlation of two similar batches by site of the untrained network."""
    return measured("information_propagation", 0, batches=batches, noise=noise, theory=theory)


def gradient_norm(batches: int, *, theory: bool) -> Measurement:
    """Norm of the loss's gradient by site of the untrained network."""
    return measured("gradient_norm", 0, batches=batches, theory=theory)


def _gradient_correlation(pairs: str, batches: int, noise: float) -> Measurement:
    return measured("gradient_correlation", 0, pairs=pairs, batches=batches, noise=noise)


def _convolutional(measurements: Callable[..., tuple[Measurement, ...]]) -> Callable[..., Stages]:
    """Figure 2, App.1 or App.2: a WideResNet with these measurements, made of batches, noise and theory."""

    def study(*, skips: bool, batches: int, noise: float, **fields: Any) -> Stages:
        setting = Untrained(**fields)
        return setting.measured(setting.wide_resnet(skips=skips), *measurements(batches, noise, theory=not skips))

    return study


def _signal(batches: int, noise: float, *, theory: bool) -> tuple[Measurement, ...]:
    return (signal(batches, noise, theory=theory),)


def _gradient_norm(batches: int, noise: float, *, theory: bool) -> tuple[Measurement, ...]:  # noqa: ARG001  (as others)
    return (gradient_norm(batches, theory=theory),)


def _both(batches: int, noise: float, *, theory: bool) -> tuple[Measurement, ...]:
    return (signal(batches, noise, theory=theory), gradient_norm(batches, theory=theory))


_SMOKE: dict[str, Any] = {
    "data": DIGITS,
    "max_train": 256,
    "norms": named("batchnorm", "layernorm", "weightnorm", "bmlv", "lmbv", "prelayernorm", "regnorm"),
    "seeds": 1,
    "batch_size": 16,
    "batches": 2,
    "noise": 0.1,
}
_LAPTOP: dict[str, Any] = {"norms": NINE, "batches": 4, "noise": 0.1}
_MLP: Fields = {
    "smoke": _SMOKE | {"depth": 8, "width": 32},
    "laptop": _LAPTOP
    | {"data": MNIST, "max_train": 4000, "seeds": 5, "depth": 40, "width": 512, "batch_size": 128},
    "paper": _LAPTOP
    | {"data": MNIST, "max_train": None, "seeds": 5, "depth": 50, "width": 1000, "batch_size": 128},
}  # fmt: skip
_WRN: Fields = {
    "smoke": _SMOKE | {"depth": 8, "width": 1},
    "laptop": _LAPTOP
    | {"data": CIFAR10, "max_train": 2000, "seeds": 3, "depth": 26, "width": 2, "batch_size": 64},
    "paper": _LAPTOP
    | {"data": CIFAR10, "max_train": None, "seeds": 5, "depth": 26, "width": 2, "batch_size": 128},
}  # fmt: skip


def _wrn_fields(*, skips: bool) -> Fields:
    return {scale: fields | {"skips": skips} for scale, fields in _WRN.items()}


_WRN_NOTES = (
    notes.CORRELATION,
    notes.NOISE,
    notes.GRADIENT_NORM,
    notes.HE,
    "laptop: the paper's own network, WRN-26-2, with batches of 64 instead of 128, three seeds instead of five, and "
    "the first 2,000 training images (an untrained network is shown no more than 256 of them).",
    notes.SMOKE,
)
_NO_THEORY = "Theory has no line with skips: its maps are those of a chain of layers."

ITEMS = (
    Item(
        name="fig1",
        title="Correlation of activations and of gradients by depth in a dense ReLU network, untrained",
        source="Figure 1",
        fields=_MLP,
        study=dense,
        figures=figures.dense,
        notes=(
            notes.CORRELATION,
            notes.NOISE,
            notes.SIMILAR_GRADIENTS,
            notes.HE,
            "Depth and width are not in the paper [G]: 50 layers of 1,000 units; laptop 40 of 512. Batches of 128 [D].",
            "laptop: the first 4,000 training images (an untrained network is shown no more than 512 of them).",
            "The gradient norm is not in Figure 1; it is measured too, because theory is exact for this network.",
            notes.SMOKE,
        ),
    ),
    Item(
        name="fig2",
        title="Correlation and gradient norm by depth in a WideResNet without skips, untrained",
        source="Figure 2",
        fields=_wrn_fields(skips=False),
        study=_convolutional(_both),
        figures=figures.without_skips,
        notes=_WRN_NOTES,
    ),
    Item(
        name="app1",
        title="Correlation by depth in a WideResNet with skips, untrained",
        source="Figure App.1",
        fields=_wrn_fields(skips=True),
        study=_convolutional(_signal),
        figures=figures.propagation_with_skips,
        notes=(*_WRN_NOTES, _NO_THEORY),
    ),
    Item(
        name="app2",
        title="Gradient norm by depth in a WideResNet with skips, untrained",
        source="Figure App.2",
        fields=_wrn_fields(skips=True),
        study=_convolutional(_gradient_norm),
        figures=figures.gradient_norm_with_skips,
        notes=(*_WRN_NOTES, _NO_THEORY),
    ),
)
