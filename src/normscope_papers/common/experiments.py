"""How experiments are put together: normalizers side by side, seeds paired, rates searched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

from normscope.study import (
    Data,
    Experiment,
    Final,
    Measurement,
    Model,
    Norm,
    Optimizer,
    Schedule,
    Switch,
    Training,
)

Scalar = bool | int | float | str | None
Fields = dict[Literal["smoke", "laptop", "paper"], dict[str, Any]]
Stages = tuple[tuple[Experiment, ...], Final | None]


def named(*names: str) -> tuple[Norm, ...]:
    """Rows of the table without options."""
    return tuple(Norm(name) for name in names)


def identifier(*parts: object) -> str:
    """A name for a folder: letters, digits, "-", "." and ","; empty parts are left out.

    >>> identifier("k=1.21", "regnorm:penalty=B", "init", "")
    'k-1.21-regnorm,penalty-B-init'
    """
    text = "-".join(str(part) for part in parts if part != "").replace(":", ",")
    return re.sub(r"[^A-Za-z0-9.,-]+", "-", text)


def measured(probe: str, *at: int, **options: Scalar) -> Measurement:
    """A measurement at these steps."""
    return Measurement(probe=probe, at=tuple(sorted({*at})), options=options)


def evaluated(*at: int, split: str = "validation") -> Measurement:
    """Accuracy and loss of a split at these steps."""
    return measured("evaluation", *at, split=split)


def switch(name: str, **options: Scalar) -> Switch:
    """A change to the network, by name."""
    return Switch(name=name, options=options)


def network(family: str, **options: Scalar) -> Model:
    """A network of a family."""
    return Model(family=family, options=options)


def untrained(
    *,
    data: Data,
    model: Model,
    norms: Iterable[Norm],
    seeds: int,
    batch_size: int,
    measurements: tuple[Measurement, ...],
    condition: str = "",
) -> tuple[Experiment, ...]:
    """Every normalizer at initialization with seeds 0, 1, ...: the same weights and batches for all of them."""
    return tuple(
        Experiment(
            id=identifier(condition, norm.label, "init", f"seed{seed}"),
            data=data,
            model=model,
            norm=norm,
            seed=seed,
            condition=condition,
            batch_size=batch_size,
            measurements=measurements,
        )
        for norm in norms
        for seed in range(seeds)
    )


def trained(
    norm: Norm,
    *,
    data: Data,
    model: Model,
    steps: int,
    batch_size: int,
    optimizer: Callable[..., Optimizer],
    weight_decay: float = 0.0,
    penalty_weight: float = 0.0,
    schedule: Schedule = Schedule(),  # noqa: B008  (immutable)
    condition: str = "",
    switches: tuple[Switch, ...] = (),
    precision: str = "32-true",
    checkpoint_every: int | None = None,
) -> Experiment:
    """A training without a name, rate or seed of its own yet: what `searched` and `every` fill in.

    `optimizer(lr, weight_decay=...)` makes the optimizer; a measurement's batch is as large as a step's.
    """
    return Experiment(
        id="",
        data=data,
        model=model,
        norm=norm,
        seed=0,
        condition=condition,
        switches=switches,
        training=msgspec.convert(
            {
                "steps": steps,
                "batch_size": batch_size,
                "optimizer": optimizer(1.0, weight_decay=weight_decay),
                "schedule": schedule,
                "penalty_weight": penalty_weight,
                "precision": precision,
                "checkpoint_every": checkpoint_every,
            },
            Training,
        ),
        batch_size=batch_size,
    )


def at(experiment: Experiment, *, lr: float, seed: int, measurements: tuple[Measurement, ...]) -> Experiment:
    """The training at this learning rate, from this seed."""
    assert experiment.training is not None
    optimizer = msgspec.structs.replace(experiment.training.optimizer, lr=lr)
    return msgspec.structs.replace(
        experiment,
        id=identifier(experiment.condition, experiment.norm.label, f"lr{lr:g}", f"seed{seed}"),
        seed=seed,
        training=msgspec.structs.replace(experiment.training, optimizer=optimizer),
        measurements=measurements,
    )


def searched(
    trainings: Iterable[Experiment], *, lrs: Sequence[float], seeds: int, measurements: tuple[Measurement, ...]
) -> Stages:
    """Each training at each rate from seed 0, then the best rate again with seeds 0, 1, ... and the measurements.

    Where there is one rate there is nothing to search, and the second stage is all there is.
    """
    if len(lrs) == 1:
        return every(trainings, lrs=lrs, seeds=seeds, measurements=lambda _: measurements), None
    search = every(trainings, lrs=lrs, seeds=1, measurements=lambda training: (evaluated(training.steps),))
    return search, Final(seeds=tuple(range(seeds)), measurements=measurements)


def every(
    trainings: Iterable[Experiment],
    *,
    lrs: Sequence[float],
    seeds: int,
    measurements: Callable[[Training], tuple[Measurement, ...]],
) -> tuple[Experiment, ...]:
    """Each training at each rate from every seed."""
    found = []
    for training in trainings:
        assert training.training is not None
        asked = measurements(training.training)
        found += [at(training, lr=lr, seed=seed, measurements=asked) for lr in lrs for seed in range(seeds)]
    return tuple(found)


def on_the_way(steps: int, *, per_decade: int) -> tuple[int, ...]:
    """Steps 0 and the last, and between them so many per factor of ten."""
    from normscope.train import log_spaced  # imports torch, which `normscope papers` does not wait for

    return log_spaced(steps, per_decade=per_decade)
