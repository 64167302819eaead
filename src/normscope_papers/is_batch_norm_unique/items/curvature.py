"""Figures 4, App.5 and 6: the Hessian's spectrum at step 50, and its largest eigenvalues through training."""

from __future__ import annotations

from typing import Any

from normscope.study import Item, Measurement
from normscope_papers.common.experiments import Fields, Stages, evaluated, measured, named, searched
from normscope_papers.is_batch_norm_unique import figures, notes
from normscope_papers.is_batch_norm_unique.training import LAPTOP, PAPER, SMOKE, WideTraining


def spectrum(
    *, at: tuple[int, ...], examples: int, lanczos_steps: int, lanczos_starts: int, modes: str, **fields: Any
) -> Stages:
    """The density of the Hessian's eigenvalues at these steps of training."""
    asked = measured(
        "spectrum",
        *at,
        examples=examples,
        lanczos_steps=lanczos_steps,
        lanczos_starts=lanczos_starts,
        modes=modes,
    )
    return _trained(asked, **fields)


def sharpness(*, at: tuple[int, ...], examples: int, **fields: Any) -> Stages:
    """The ten largest eigenvalues of the Hessian, and the smallest, at these steps of training."""
    return _trained(measured("sharpness", *at, examples=examples), **fields)


def _trained(measurement: Measurement, **fields: Any) -> Stages:
    setting = WideTraining(**fields)
    evaluations = (evaluated(setting.steps), evaluated(setting.steps, split="test"))
    return searched(setting.trainings(), lrs=setting.lrs, seeds=setting.seeds, measurements=(*evaluations, measurement))


_SIX = named("none", "batchnorm", "layernorm", "bmlv", "prelayernorm", "regnorm")
_SEVEN = named("none", "batchnorm", "layernorm", "weightnorm", "bmlv", "prelayernorm", "regnorm")
_SPECTRUM = {"modes": "train", "lanczos_starts": 1}
# One network: each costs the smoke run a second to prepare products of its Hessian.
_SMOKE = SMOKE | {"norms": named("layernorm"), "at": (3,), "examples": 16}
# 100 steps: long enough to see whether step 50 says how the spectrum will look.
_LAPTOP = LAPTOP | {"steps": 100, "lrs": (0.03,), "examples": 64, "at": (0, 50, 100)}
_PAPER = PAPER | {"examples": 512, "at": (0, 50, 1000)}


def _spectrum_fields(*, skips: bool, laptop_at: tuple[int, ...]) -> Fields:
    return {
        "smoke": _SMOKE | _SPECTRUM | {"skips": skips, "lanczos_steps": 8},
        "laptop": _LAPTOP
        | _SPECTRUM
        | {"norms": _SIX, "skips": skips, "lanczos_steps": 80, "steps": max(laptop_at), "at": laptop_at},
        "paper": _PAPER | _SPECTRUM | {"norms": _SEVEN, "skips": skips, "lanczos_steps": 80, "lanczos_starts": 10},
    }  # fmt: skip


_NOTES = (notes.TRAINING, notes.PENALTY_WEIGHT, notes.HESSIAN, notes.LAPTOP_TRAINING, notes.ONE_RATE)
_LAPTOP_SPECTRUM = (
    "laptop: the Hessian of 64 images, a training batch, instead of 512, one Lanczos start instead of ten."
)

ITEMS = (
    Item(
        name="fig4",
        title="Density of the Hessian's eigenvalues 50 steps into training",
        source="Figure 4",
        fields=_spectrum_fields(skips=False, laptop_at=(0, 50, 100)),
        study=spectrum,
        figures=figures.spectra,
        notes=(
            *_NOTES,
            _LAPTOP_SPECTRUM + " 100 steps of training instead of 1,000.",
            "Measured at initialization and at the last step too, since the text says that the spectrum has changed by "
            "step 50 and predicts its late shape.",
            notes.SMOKE,
        ),
    ),
    Item(
        name="app5",
        title="Density of the Hessian's eigenvalues 50 steps into training, with skips",
        source="Figure App.5",
        fields=_spectrum_fields(skips=True, laptop_at=(0, 50)),
        study=spectrum,
        figures=figures.spectra,
        notes=(*_NOTES, _LAPTOP_SPECTRUM + " Training ends at step 50.", notes.SMOKE),
    ),
    Item(
        name="fig6",
        title="Largest eigenvalue of the Hessian and its ratio to the tenth through training",
        source="Figure 6",
        fields={
            "smoke": _SMOKE | {"norms": named("none")},  # eigenvalues that converge take many products
            "laptop": _LAPTOP | {"norms": _SEVEN},
            "paper": _PAPER | {"norms": _SEVEN, "at": (0, 1, 3, 10, 25, 50, 100, 250, 500, 1000)},
        },
        study=sharpness,
        figures=figures.sharpness,
        notes=(
            *_NOTES,
            "λ₁/λ₁₀ is taken of eigenvalues that have converged (block Krylov with residuals), not of Ritz values: "
            "where one of the two has not, there is no ratio.",
            "laptop: the Hessian of 64 images, a training batch, instead of 512, at three steps of 100 instead of "
            "ten of 1,000.",
            notes.SMOKE,
        ),
    ),
)
