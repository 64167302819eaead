"""What happens before the first trial: the data are read, and everything the recipe names is tried out once."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import torch

from normscope import data
from normscope.curvature.memory import available_bytes
from normscope.study.building import network, row
from normscope.study.recipe import Norm, Recipe

_SHARE_OF_FREE_MEMORY = 0.8


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


def load_data(recipe: Recipe) -> data.Dataset:
    """The recipe's data set."""
    return data.load(recipe.data, max_train=recipe.max_train, max_eval=recipe.max_eval)


def load_on_device(recipe: Recipe) -> data.Dataset:
    """The recipe's data set on the device that trials run on."""
    dataset, chosen = load_data(recipe), device()
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
        "classes": list(dataset.classes),
        "note": dataset.note,
    }


def try_out(recipe: Recipe) -> data.Dataset:
    """Load the data and build every model once; ValueError for whatever the comparison would stumble over."""
    rows = [row(norm) for norm in recipe.norms]  # an unknown name is found before any data are read
    coupling = [r.name for r in rows if r.couples_batch]
    if recipe.batch_size == 1 and coupling:
        raise ValueError(
            f"{', '.join(coupling)} take statistics over the batch and need a batch_size of at least 2, got 1; "
            "raise --batch-size, or leave these normalizers out."
        )
    dataset = load_data(recipe)
    if recipe.batch_size > len(dataset.train):
        raise ValueError(
            f"batch_size must not exceed the {len(dataset.train)} training examples of {dataset.name}, "
            f"got {recipe.batch_size}; lower --batch-size."
        )
    for field in ("depth", "train_depth"):
        try:
            _build(recipe, recipe.norms[0], dataset, depth=getattr(recipe, field))
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
    if recipe.curvature_examples is not msgspec.UNSET and recipe.curvature_examples > len(dataset.train):
        raise ValueError(
            f"curvature_examples must not exceed the {len(dataset.train)} training examples of {dataset.name}, "
            f"got {recipe.curvature_examples}; lower --curvature-examples."
        )
    shrunk = small(recipe)
    for norm in recipe.norms:
        model = _build(shrunk, norm, dataset, depth=shrunk.train_depth)
        with torch.no_grad():
            model(dataset.train.inputs[:2])
    return dataset


def small(recipe: Recipe) -> Recipe:
    """The same with a network as small as it can be without losing what a normalizer does."""
    if recipe.model == "wrn":
        return msgspec.structs.replace(recipe, width=1, train_depth=8)
    return msgspec.structs.replace(recipe, width=min(recipe.width, 8), train_depth=1)


def memory_limit(*, share: float) -> int | None:
    """Bytes that products may take of what is free on the device, for one of several that run side by side."""
    free = available_bytes(device())
    return None if math.isinf(free) else int(_SHARE_OF_FREE_MEMORY * share * free)


def _build(recipe: Recipe, norm: Norm, dataset: data.Dataset, *, depth: int) -> torch.nn.Module:
    return network(recipe, norm, dataset, depth=depth, generator=torch.Generator().manual_seed(0))
