"""The recurrent networks that the contributions mention, and of which the paper shows nothing."""

from __future__ import annotations

from normscope.study import Data, Item, Norm
from normscope_papers.common.data_sets import DIGITS, MNIST
from normscope_papers.common.experiments import Stages, evaluated, named, network, on_the_way, searched, trained
from normscope_papers.is_batch_norm_unique import figures, notes
from normscope_papers.is_batch_norm_unique.experiments import momentum


def recurrent(
    *,
    data: str,
    max_train: int | None,
    max_eval: int | None,
    cells: tuple[str, ...],
    norms: tuple[Norm, ...],
    hidden: int,
    layers: int,
    steps: int,
    batch_size: int,
    lrs: tuple[float, ...],
    seeds: int,
    per_decade: int,
) -> Stages:
    """Each cell with each normalizer on images read row by row."""
    trainings = [
        trained(
            norm,
            data=Data(name=data, max_train=max_train, max_eval=max_eval),
            model=network("recurrent", cell=cell, hidden=hidden, layers=layers),
            steps=steps,
            batch_size=batch_size,
            optimizer=momentum,
            condition=cell,
        )
        for cell in cells
        for norm in norms
    ]
    at = on_the_way(steps, per_decade=per_decade)
    measurements = (evaluated(*at, split="test"), evaluated(steps))
    return searched(trainings, lrs=lrs, seeds=seeds, measurements=measurements)


_NORMS = named("none", "layernorm", "prelayernorm")

ITEMS = (
    Item(
        name="recurrent",
        title="LSTM and GRU with Layer Norm, with PreLayerNorm and without",
        source="section 1 (contributions)",
        fields={
            "smoke": {
                "data": DIGITS,
                "max_train": 128,
                "max_eval": 64,
                "cells": ("lstm", "gru"),
                "norms": named("layernorm", "prelayernorm"),
                "hidden": 8,
                "layers": 1,
                "steps": 3,
                "batch_size": 16,
                "lrs": (0.1,),
                "seeds": 1,
                "per_decade": 1,
            },
            "laptop": {
                "data": MNIST,
                "max_train": None,
                "max_eval": 2000,
                "cells": ("lstm", "gru"),
                "norms": _NORMS,
                "hidden": 64,
                "layers": 1,
                "steps": 500,
                "batch_size": 64,
                "lrs": (0.03, 0.1, 0.3),
                "seeds": 3,
                "per_decade": 4,
            },
            "paper": {
                "data": MNIST,
                "max_train": None,
                "max_eval": None,
                "cells": ("lstm", "gru"),
                "norms": _NORMS,
                "hidden": 256,
                "layers": 2,
                "steps": 10_000,
                "batch_size": 128,
                "lrs": (0.01, 0.03, 0.1, 0.3, 1.0),
                "seeds": 5,
                "per_decade": 4,
            },
        },
        study=recurrent,
        figures=figures.recurrent,
        notes=(
            "The contributions claim that PreLayerNorm improves on Layer Norm for recurrent architectures; no network, "
            "task or number survives [G]. This is a stand-in: one of the published Layer Norm LSTM and GRU cells (Ba "
            "et al. 2016), MNIST read row by row, SGD with Nesterov momentum 0.9.",
            "laptop: 64 units, 500 steps; paper: two layers of 256, 10,000 steps. Both sizes are ours.",
            notes.SMOKE,
        ),
    ),
)
