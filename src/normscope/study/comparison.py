"""The trials of a comparison spelled out as experiments."""

from __future__ import annotations

from msgspec import UNSET

from normscope.study.due import sharpness_steps, spectrum_steps
from normscope.study.experiment import Experiment, Measurement, Model, Optimizer, Scalar, Training
from normscope.study.plan import Trial
from normscope.study.probing import ProbeName
from normscope.study.recipe import Recipe
from normscope.train import log_spaced

_PROBES_PER_DECADE = 3


def experiment_of(trial: Trial, recipe: Recipe) -> Experiment:
    """What this trial of the comparison does."""
    measurements = _of_initialization(recipe) if trial.lr is None else _of_training(trial, recipe)
    return Experiment(
        id=trial.id,
        data=recipe.dataset,
        model=_model(recipe, recipe.depth if trial.lr is None else recipe.train_depth),
        norm=trial.norm,
        seed=trial.seed,
        training=None if trial.lr is None else _training(recipe, trial.lr),
        batch_size=recipe.batch_size,
        measurements=tuple(m for owner, m in measurements if owner is None or owner in recipe.measured),
    )


def _model(recipe: Recipe, depth: int) -> Model:
    options: dict[str, Scalar] = {"depth": depth, "width": recipe.width}
    return Model(family=recipe.model, options=options | ({"skips": recipe.skips} if recipe.model == "wrn" else {}))


def _training(recipe: Recipe, lr: float) -> Training:
    options: dict[str, Scalar] = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    return Training(
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        optimizer=Optimizer(lr=lr, options=options),
        penalty_weight=recipe.penalty_weight,
    )


# The probe that a measurement belongs to, and the measurement; None for what every comparison measures.
_Owned = tuple[ProbeName | None, Measurement]


def _of_initialization(recipe: Recipe) -> list[_Owned]:
    drawn: dict[str, Scalar] = {"batches": recipe.init_batches, "source": "data"}
    noise: dict[str, Scalar] = {"noise": recipe.noise}
    theory: dict[str, Scalar] = {"theory": not recipe.skips}

    def at_start(probe: ProbeName, **options: Scalar) -> _Owned:
        return probe, Measurement(probe=probe, at=(0,), options=drawn | options)

    return [
        at_start("information_propagation", **noise, **theory),
        at_start("gradient_correlation", pairs="similar", **noise),
        at_start("gradient_correlation", pairs="independent"),
        at_start("gradient_norm", **theory),
    ]


def _of_training(trial: Trial, recipe: Recipe) -> list[_Owned]:
    """The spread is taken over seeds; one batch a measurement keeps probing cheaper than the training it watches."""
    at = log_spaced(recipe.steps, per_decade=_PROBES_PER_DECADE)

    def on_the_way(probe: ProbeName, **options: Scalar) -> _Owned:
        return probe, Measurement(probe=probe, at=at, options=options)

    found = [
        on_the_way("information_propagation", select="last", noise=recipe.noise),
        on_the_way("gradient_correlation", pairs="similar", by="network", noise=recipe.noise),
        on_the_way("gradient_correlation", pairs="independent", by="network"),
        (None, Measurement(probe="evaluation", at=at, options={"split": "validation"})),
        *_of_curvature(trial, recipe),
    ]
    return [*found, (None, Measurement(probe="evaluation", at=(recipe.steps,), options={"split": "test"}))]


def _of_curvature(trial: Trial, recipe: Recipe) -> list[_Owned]:
    if recipe.curvature_examples is UNSET:
        return []
    examples: dict[str, Scalar] = {"examples": recipe.curvature_examples}
    found: list[_Owned] = []
    if recipe.spectrum is not UNSET:
        spectrum = recipe.spectrum
        options: dict[str, Scalar] = {
            "lanczos_steps": spectrum.lanczos_steps,
            "lanczos_starts": spectrum.lanczos_starts,
            "modes": ",".join(spectrum.modes),
            "groups": " ".join(spectrum.groups),
        }
        at = spectrum_steps(trial, recipe)
        found.append(("spectrum", Measurement(probe="spectrum", at=at, options=examples | options)))
    at = sharpness_steps(trial, recipe)
    return [*found, ("sharpness", Measurement(probe="sharpness", at=at, options=examples))]
