"""The Hessian of a network in training: its spectra and largest eigenvalues as rows.

The loss is the mean cross-entropy of one batch of training examples, the same at every step: no penalty, no weight
decay, no augmentation, dropout off.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from normscope.data import Dataset, shuffled_batches
from normscope.probes import Reading, Sharpness, SpectralDensity, Subject
from normscope.study import seeds
from normscope.study.building import cast, cross_entropy
from normscope.study.due import Due, num_nodes, spectra, tracks_running_statistics
from normscope.study.measuring import Scene
from normscope.study.probing import Spectrum, as_modes
from normscope.study.rows import Rows

_EIGENVALUES = 10  # K of lambda_1 / lambda_K: the number of classes of the paper's data set


def spectrum(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    examples: int,
    lanczos_steps: int = 80,
    lanczos_starts: int = 2,
    modes: str = "train,eval",
    groups: str = "",
) -> None:
    """Gauss rules of the Hessian of so many examples; modes are listed with commas, patterns of groups with spaces."""
    asked = asked_spectrum(lanczos_steps=lanczos_steps, lanczos_starts=lanczos_starts, modes=modes, groups=groups)
    subject = _weighed(scene, model, step, examples)
    for due in spectra(asked, model):
        _write_rules(scene.rows, _density(scene, subject, asked, due, step), due, step)
    if not tracks_running_statistics(model):
        scene.rows.add("spectrum.eval", "same_as_train", 1.0, step=step)


def sharpness(scene: Scene, model: nn.Module, step: int, *, examples: int) -> None:
    """The ten largest eigenvalues of the Hessian of so many examples and the smallest, with residuals."""
    counts = [0]

    def progress(done: int) -> None:
        counts.append(done)
        scene.advance(f"sharpness at step {step}", done, None)

    subject = _weighed(scene, model, step, examples)
    probe = Sharpness(k=_EIGENVALUES, memory_limit=scene.memory_limit, progress=progress)
    _write_eigenvalues(scene.rows, probe(subject, generator=scene.generator(step)), step)
    scene.rows.add("sharpness", "num_matvecs", counts[-1], step=step)


def asked_spectrum(
    *, lanczos_steps: int = 80, lanczos_starts: int = 2, modes: str = "train,eval", groups: str = "", steps: int = 0
) -> Spectrum:
    """The options of the measurement `spectrum` as one object."""
    return Spectrum(
        lanczos_steps=lanczos_steps,
        lanczos_starts=lanczos_starts,
        steps=(steps,),
        modes=as_modes(tuple(modes.split(","))),
        groups=tuple(groups.split()),
    )


def curvature_batch(dataset: Dataset, examples: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """The training examples whose loss the Hessian is of."""
    return next(shuffled_batches(dataset.train, examples, generator=seeds.generator(seed, "probe")))


def total_norm(model: nn.Module) -> float:
    """Euclidean norm of all parameters: a normalized layer's curvature goes with the inverse square of its weights."""
    squares = [parameter.detach().double().square().sum() for parameter in model.parameters()]
    return math.sqrt(torch.stack(squares).sum().item())


def _weighed(scene: Scene, model: nn.Module, step: int, examples: int) -> Subject:
    """What the Hessian is of; the size of the weights at this step is written with it, once."""
    if step not in scene.weighed:
        scene.weighed.add(step)
        scene.rows.add("weights", "norm", total_norm(model), step=step)
    inputs, targets = curvature_batch(scene.dataset, examples, seed=scene.experiment.seed)
    return Subject(model, cross_entropy, (cast(inputs, scene.experiment), targets))


def _density(scene: Scene, subject: Subject, asked: Spectrum, due: Due, step: int) -> Reading:
    nodes = num_nodes(asked, subject.model, due.group)
    of = f" of {due.layer}" if due.layer else ""
    what = f"spectrum{of} at step {step}, {due.mode} mode"
    probe = SpectralDensity(
        num_matvecs=nodes,
        num_samples=asked.lanczos_starts,
        params=due.group,
        mode=due.mode,
        memory_limit=scene.memory_limit,
        progress=lambda done: scene.advance(what, done, nodes * asked.lanczos_starts),
    )
    return probe(subject, generator=scene.generator(step))


def _write_rules(rows: Rows, reading: Reading, due: Due, step: int) -> None:
    """Nodes, weights and residuals, numbered through the starts in the column depth."""
    numbered = reading.values.flatten(1).T.tolist()
    for depth, values in enumerate(numbered, start=1):
        for quantity, value in zip(reading.labels["quantity"], values, strict=True):
            rows.add(due.probe, quantity, value, step=step, layer=due.layer, depth=depth, unit=reading.unit)


def _write_eigenvalues(rows: Rows, reading: Reading, step: int) -> None:
    """The largest by rank, in the column depth, and what they come to.

    The ratio of the first to the last of them is NaN where one of the two has not converged, or the last is not
    positive.
    """
    values, residuals, converged = reading.values.tolist()
    for rank, (value, residual, good) in enumerate(zip(values[:-1], residuals, converged, strict=False), start=1):
        rows.add("sharpness", "eigenvalue", value, step=step, depth=rank, unit=reading.unit)
        rows.add("sharpness", "residual", residual, step=step, depth=rank, unit=reading.unit)
        rows.add("sharpness", "converged", good, step=step, depth=rank)
    *_, last, smallest = values
    known = converged[0] == converged[-2] == 1 and last > 0
    rows.add("sharpness", "lambda_max", values[0], step=step, unit=reading.unit)
    rows.add("sharpness", "lambda_min", smallest, step=step, unit=reading.unit)
    rows.add("sharpness", "lambda_min_residual", residuals[-1], step=step, unit=reading.unit)
    rows.add("sharpness", "lambda_min_converged", converged[-1], step=step)
    rows.add("sharpness", "lambda_abs_max", max(abs(values[0]), abs(smallest)), step=step, unit=reading.unit)
    rows.add("sharpness", "lambda_ratio", values[0] / last if known else math.nan, step=step)
