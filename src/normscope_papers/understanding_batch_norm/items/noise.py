"""The noise of a step of stochastic gradient descent, against the batch and the rate."""

from __future__ import annotations

from normscope.study import Data, Experiment, Item, Norm
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.experiments import Fields, Stages, evaluated, every, measured, trained
from normscope_papers.understanding_batch_norm import notes
from normscope_papers.understanding_batch_norm.experiments import at_least, he_sgd, patient, residual
from normscope_papers.understanding_batch_norm.figures import step_sizes as figures


def gradient_noise(
    *,
    data: str,
    max_train: int | None,
    max_eval: int,
    depth: int,
    width: int,
    batch_size: int,
    steps: int,
    lr: float,
    none_lr: float,
    examples: int,
    sizes: tuple[int, ...],
    rates: tuple[float, ...],
    draws: int,
    seeds: int,
    weight_decay: float,
) -> Stages:
    """Noise of one step at each size of batch and each rate, after some training."""
    at_least(1, draws=draws)
    for size in sizes:
        if not 1 <= size <= examples:
            raise ValueError(
                f"sizes must lie between 1 and the {examples} examples, got {size}; change the one or the other."
            )
    found: list[Experiment] = []
    listed = {"sizes": " ".join(map(str, sizes)), "lrs": " ".join(f"{rate:g}" for rate in rates)}
    asked = (evaluated(steps), measured("gradient_noise", steps, examples=examples, draws=draws, **listed))
    for norm, own_lr in ((Norm("batchnorm"), lr), (Norm("none"), none_lr)):
        training = trained(
            norm,
            data=Data(name=data, max_train=max_train, max_eval=max_eval),
            model=residual(depth=depth, width=width),
            steps=steps,
            batch_size=batch_size,
            weight_decay=weight_decay,
            optimizer=he_sgd,
        )
        found += every([patient(training)], lrs=(own_lr,), seeds=seeds, measurements=lambda _training: asked)
    return tuple(found), None


_RATES = (0.001, 0.01, 0.1)
_LAPTOP = {
    "data": CIFAR10,
    "max_train": None,
    "max_eval": 500,
    "depth": 20,
    "width": 16,
    "batch_size": 128,
    "steps": 50,
    "lr": 3e-3,
    "none_lr": 1e-4,
    "examples": 256,
    "sizes": (1, 4, 16, 64, 128),
    "rates": _RATES,
    "draws": 16,
    "seeds": 3,
    "weight_decay": 1e-4,
}
_FIELDS: Fields = {
    "smoke": _LAPTOP
    | {
        "data": DIGITS,
        "max_train": 128,
        "max_eval": 32,
        "depth": 8,
        "width": 4,
        "batch_size": 16,
        "steps": 3,
        "examples": 16,
        "sizes": (1, 4, 16),
        "draws": 4,
        "seeds": 1,
    },
    "laptop": _LAPTOP | {"rates": (0.001, 0.1)},
    "paper": _LAPTOP
    | {"max_eval": None, "depth": 110, "steps": 351, "examples": 2048, "sizes": (1, 8, 64, 128, 512), "draws": 64},
}

ITEMS: tuple[Item, ...] = (
    Item(
        name="noise",
        title="Noise of a step of stochastic gradient descent against batch and rate",
        source="text, bound on the noise",
        fields=_FIELDS,
        study=gradient_noise,
        figures=figures.noise,
        notes=(
            "E|α∇ℓ - α∇_SGD|² over batches drawn without replacement: sampled; exactly from the variance of the "
            "examples' gradients; and the paper's bound α²C/|B|, which is exact with replacement [D].",
            "In eval mode, where an example's gradient is its own: under batch statistics there is no gradient of one "
            "example.",
            "Everything is of the same few examples, and of the gradient over them, at the end of the training: of "
            "batch norm at rate 0.003, of the network without at 0.0001, since ResNet-110 diverges at the former.",
            notes.EPOCH,
            notes.PATIENT,
            "laptop: ResNet-20 instead of ResNet-110, 256 examples instead of 2,048, 16 draws of each size instead of "
            "64, two rates instead of three, after 50 steps instead of an epoch.",
            notes.NO_BIAS,
            notes.SMOKE,
        ),
    ),
)
