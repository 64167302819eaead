"""What happens before the first trial: the data are read, and everything the recipe names is tried out once."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch

from normscope import data, train
from normscope.curvature.memory import available_bytes
from normscope.isolation import seeded
from normscope.study import depth_batches, measuring
from normscope.study.building import cast, network, row
from normscope.study.comparison import experiment_of
from normscope.study.experiment import Data, Experiment, Measurement, Scalar, Study
from normscope.study.linear_map import LINEAR_MAP, linear_map
from normscope.study.plan import plan
from normscope.study.recipe import Recipe

_SHARE_OF_FREE_MEMORY = 0.8
_HELD = 1024  # training examples of a stream


def device() -> torch.device:
    """The first CUDA device where there is one, else the CPU; on CUDA, kernels that repeat their results."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda", 0)


def device_name() -> str:
    """The device as provenance names it."""
    chosen = device()
    return torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "cpu"


def load_data(asked: Data) -> data.Dataset:
    """The data set of an experiment."""
    if asked.name == LINEAR_MAP:
        return linear_map(max_train=asked.max_train, max_eval=asked.max_eval)
    if asked.buffer is not None:
        return _streamed(asked, asked.buffer)
    return data.load(
        asked.name,
        max_train=asked.max_train,
        max_eval=asked.max_eval,
        image_size=asked.image_size,
        sequence_length=asked.sequence_length,
        vocabulary=asked.vocabulary,
    )


def _streamed(asked: Data, buffer: int) -> data.Dataset:
    if buffer < 1:
        raise ValueError(f"buffer must be at least 1, got {buffer}; leave it out to hold all examples in memory.")
    if asked.max_eval is None:
        raise ValueError(
            f"{asked.name} is streamed, and what it is evaluated on is held in memory: max_eval must say how many "
            "examples, got none; give it, or leave out buffer."
        )
    stream = data.stream(
        asked.name,
        image_size=asked.image_size,
        sequence_length=asked.sequence_length,
        vocabulary=asked.vocabulary,
        held_out=asked.max_eval,
    )
    return data.hold(stream, max_train=_HELD if asked.max_train is None else asked.max_train, max_eval=asked.max_eval)


def load_on_device(asked: Data) -> data.Dataset:
    """The data set on the device that trials run on."""
    dataset, chosen = load_data(asked), device()
    splits = {name: getattr(dataset, name).to(chosen) for name in ("train", "validation", "test")}
    return dataclasses.replace(dataset, **splits)


def describe(dataset: data.Dataset) -> dict[str, Any]:
    """The data set as `data.json` describes it."""
    return {
        "name": dataset.name,
        "sha256": dataset.sha256,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
        "input_shape": list(dataset.input_shape),
        "num_classes": dataset.num_classes,
        "classes": list(dataset.classes) if dataset.task == "classification" else [],  # not a whole vocabulary
        "note": dataset.note,
    }


def describe_all(datasets: Mapping[Data, data.Dataset]) -> dict[str, Any]:
    """The data sets of a study as `data.json` describes them: each on its own, and one SHA-256 over all."""
    sets = [describe(dataset) for dataset in datasets.values()]
    together = hashlib.sha256("\n".join(str(found["sha256"]) for found in sets).encode()).hexdigest()
    return {"name": ", ".join(dict.fromkeys(found["name"] for found in sets)), "sha256": together, "sets": sets}


def try_out_study(study: Study) -> dict[Data, data.Dataset]:
    """Load all data and build every network once; ValueError for whatever the study would stumble over."""
    for experiment in study.experiments:
        _check_names(experiment, () if study.final is None else study.final.measurements)
    datasets = {asked: load_data(asked) for asked in dict.fromkeys(e.data for e in study.experiments)}
    seen = set()
    for experiment in study.experiments:
        dataset = datasets[experiment.data]
        _check_batches(experiment, dataset)
        _check_depth(experiment, dataset)
        built = msgspec.structs.replace(
            experiment, id="", seed=0, condition="", training=None, measurements=(), replicas=1
        )
        key = msgspec.json.encode(built, order="sorted")
        if key not in seen:
            seen.add(key)
            _try_network(experiment, dataset)
    return datasets


def _check_names(experiment: Experiment, final: Sequence[Measurement]) -> None:
    row(experiment.norm)
    for measurement in (*experiment.measurements, *final):
        measuring.check(measurement)
    training = experiment.training
    _check_replicas(experiment)
    if experiment.dtype == "float64" and training is not None and training.precision != "32-true":
        raise ValueError(
            f"float64 trains as it is, in precision 32-true, got {training.precision}; leave out the one or the other."
        )
    if training is not None:
        some = torch.nn.Linear(1, 1, device="meta")  # draws nothing
        train.optimizer(some, training.optimizer.name, training.optimizer.lr, **training.optimizer.options)
        train.schedule(training.schedule.name, **training.schedule.options)


def _check_replicas(experiment: Experiment) -> None:
    if experiment.replicas < 1:
        raise ValueError(f"replicas must be at least 1, got {experiment.replicas}; one network is the least.")
    if experiment.replicas > 1 and experiment.training is not None:
        raise ValueError(
            f"replicas are of untrained networks, got {experiment.replicas} that are trained; give each seed an "
            "experiment of its own."
        )


def _check_batches(experiment: Experiment, dataset: data.Dataset) -> None:
    training = experiment.training
    lone = 1 in (experiment.batch_size, training.batch_size if training else None)
    if lone and row(experiment.norm).couples_batch:
        raise ValueError(
            f"{experiment.norm.label} takes statistics over the batch and needs a batch_size of at least 2, got 1; "
            "raise batch_size, or leave this normalizer out."
        )
    trained_on = training if dataset.streamed is None else None  # a stream is not counted
    for size in (experiment.batch_size, *(() if trained_on is None else (trained_on.batch_size,))):
        if not 1 <= size <= len(dataset.train):
            raise ValueError(
                f"batch_size must lie between 1 and the {len(dataset.train)} training examples of {dataset.name}, "
                f"got {size}."
            )


def _check_depth(experiment: Experiment, dataset: data.Dataset) -> None:
    for measurement in experiment.measurements:
        depth_batches.check(experiment, measurement, available=len(dataset.train))


def _try_network(experiment: Experiment, dataset: data.Dataset) -> None:
    model = network(experiment, dataset, generator=torch.Generator().manual_seed(0)).model
    with torch.no_grad(), seeded(0):  # dropout draws from the global random state
        model(cast(dataset.train.inputs[:2], experiment))


def try_out(recipe: Recipe) -> data.Dataset:
    """Load the data and build every model once; ValueError for whatever the comparison would stumble over."""
    rows = [row(norm) for norm in recipe.norms]  # an unknown name is found before any data are read
    coupling = [r.name for r in rows if r.couples_batch]
    if recipe.batch_size == 1 and coupling:
        raise ValueError(
            f"{', '.join(coupling)} take statistics over the batch and need a batch_size of at least 2, got 1; "
            "raise --batch-size, or leave these normalizers out."
        )
    dataset = load_data(recipe.dataset)
    if dataset.task == "regression":
        raise ValueError(f"a comparison needs classes or texts, got {dataset.name}; choose other data.")
    if recipe.batch_size > len(dataset.train):
        raise ValueError(
            f"batch_size must not exceed the {len(dataset.train)} training examples of {dataset.name}, "
            f"got {recipe.batch_size}; lower --batch-size."
        )
    first = {trial.kind: trial for trial in plan(recipe) if trial.norm == recipe.norms[0]}
    for kind, field in (("init", "depth"), ("train", "train_depth")):
        try:
            if kind in first:
                experiment = experiment_of(first[kind], recipe)
                network(experiment, dataset, generator=torch.Generator().manual_seed(0))
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
    if recipe.curvature_examples is not msgspec.UNSET and recipe.curvature_examples > len(dataset.train):
        raise ValueError(
            f"curvature_examples must not exceed the {len(dataset.train)} training examples of {dataset.name}, "
            f"got {recipe.curvature_examples}; lower --curvature-examples."
        )
    for trial in {trial.norm.label: trial for trial in plan(recipe)}.values():
        _try_network(small(experiment_of(trial, recipe)), dataset)
    return dataset


_SMALL: dict[str, dict[str, Scalar]] = {"wrn": {"depth": 8, "width": 1}, "mlp": {"depth": 1, "width": 8}}


def small(experiment: Experiment) -> Experiment:
    """The same with a network as small as it can be without losing what a normalizer does."""
    model = experiment.model
    shrunk = msgspec.structs.replace(model, options={**model.options, **_SMALL.get(model.family, {})})
    return msgspec.structs.replace(experiment, model=shrunk)


def memory_limit(*, share: float) -> int | None:
    """Bytes that products may take of what is free on the device, for one of several that run side by side."""
    free = available_bytes(device())
    return None if math.isinf(free) else int(_SHARE_OF_FREE_MEMORY * share * free)
