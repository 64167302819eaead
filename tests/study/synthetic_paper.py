"""A paper that nobody wrote, and runs of its items that never ran, written down as the driver would leave them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from normscope.report.specification import Axis, LineFigure, Panel, Series
from normscope.report.tables import Table
from normscope.study import Data, Experiment, Final, Measurement, Model, Norm, Optimizer, Study, Training, records
from normscope.study import folder as folders
from normscope.study.claims import Claim, Effect, paired, value
from normscope.study.paper import GROUP, Item, Paper, Published
from normscope.study.plan import Trial
from normscope.study.recipe import parse_norm
from normscope.study.rows import Rows

NORM = {"probe": "gradient_norm", "name": "norm", "depth": "first"}


def untrained(*, data: str, max_train: int | None, norms: tuple[str, ...], seeds: int, noise: float, skips: bool):
    """Gradient norms of an MLP, seed by seed."""
    options = {"depth": 2, "width": 8}
    experiments = tuple(
        Experiment(
            id=f"{name.replace(':', ',')}-seed{seed}",
            data=Data(name=data, max_train=max_train, max_eval=16),
            model=Model(family="mlp", options=options),
            norm=msgspec.convert(parse_norm(name), Norm),
            seed=seed,
            condition="skips" if skips else "",
            batch_size=8,
            measurements=(Measurement(probe="gradient_norm", at=(0,), options={"batches": 1}),),
        )
        for name in norms
        for seed in range(seeds)
    )
    return experiments, None


def searched(*, lrs: tuple[float, ...], steps: int, seeds: int):
    """Two rates of one normalizer from one seed, then the best from several."""
    experiments = tuple(
        Experiment(
            id=f"layernorm-lr{lr:g}",
            data=Data(name="digits", max_train=48, max_eval=16),
            model=Model(family="mlp", options={"depth": 1, "width": 4}),
            norm=Norm("layernorm"),
            seed=0,
            training=Training(steps=steps, batch_size=8, optimizer=Optimizer(lr=lr)),
            batch_size=8,
            measurements=(Measurement(probe="evaluation", at=(steps,)),),
        )
        for lr in lrs
    )
    evaluated = Measurement(probe="evaluation", at=(steps,), options={"split": "test"})
    return experiments, Final(seeds=tuple(range(seeds)), measurements=(evaluated,))


def _line(frame: pd.DataFrame, normalizer: str) -> Series:
    found = value(frame, normalizer=normalizer, **NORM)
    mean = sum(found.values()) / len(found)
    return Series(normalizer, "measured", (1.0,), (mean,), (mean,), (mean,), tuple((s, (v,)) for s, v in found.items()))


def _figure(frame: pd.DataFrame, study: Study) -> tuple[LineFigure, ...]:
    names = [
        name for name in dict.fromkeys(e.norm.label for e in study.experiments) if name in set(frame["normalizer"])
    ]
    if not names:
        return ()
    panel = Panel("", Axis("depth"), Axis("gradient norm", log=True), tuple(_line(frame, name) for name in names))
    return (LineFigure("norms", "Gradient norms", "Norm of the gradient at the first site.", (panel,)),)


def _table(frame: pd.DataFrame, _study: Study) -> tuple[Table, ...]:
    rows = tuple((name, str(len(group))) for name, group in frame.groupby("normalizer"))
    return (Table("Rows of each normalizer", ("normalizer", "rows"), rows),)


def _growth(frame: pd.DataFrame) -> Effect:
    rows = frame[frame["item"] == "fig1"]
    found = paired(rows, {"normalizer": "batchnorm"}, {"normalizer": "layernorm"}, **NORM)
    return Effect("gradient norm at the first site, batchnorm minus layernorm", "1", found)


def _skips(frame: pd.DataFrame) -> Effect:
    found = paired(frame, {"condition": "skips"}, {"condition": ""}, normalizer="batchnorm", **NORM)
    return Effect("gradient norm at the first site, with skips minus without", "1", found)


def _accuracy(frame: pd.DataFrame) -> Effect:
    rows = frame[frame["item"] == "fig2"]
    return Effect("final test accuracy", "1", value(rows, probe="evaluation", name="test_accuracy", step="last"))


def _published(frame: pd.DataFrame) -> Effect | None:
    return Effect("norm", "1", value(frame, normalizer="batchnorm", **NORM))


FIG1 = Item(
    name="fig1",
    title="Gradients by depth",
    source="Figure 1",
    fields={
        "smoke": {
            "data": "digits", "max_train": 48, "norms": ("batchnorm", "layernorm"), "seeds": 2, "noise": 0.1,
            "skips": False,
        },
        "laptop": {
            "data": "mnist", "max_train": 400, "norms": ("batchnorm", "layernorm"), "seeds": 3, "noise": 0.1,
            "skips": False,
        },
        "paper": {
            "data": "mnist", "max_train": None, "norms": ("batchnorm", "layernorm"), "seeds": 5, "noise": 0.1,
            "skips": False,
        },
    },
    study=untrained,
    figures=_figure,
    tables=_table,
    notes=("The noise is a guess [G].", "laptop: 400 images instead of all."),
    published=(
        Published(
            quantity="gradient norm", normalizer="batchnorm", value=2.5, uncertainty=0.1, unit="1",
            measured=_published, gap="Their network is wider.",
        ),
        Published(
            quantity="perplexity", normalizer="none", value=59.2, uncertainty=None, unit="nats",
            measured=lambda _: None, gap="It is not measured here.",
        ),
    ),
)  # fmt: skip
FIG2 = Item(
    name="fig2",
    title="A search",
    source="Figure 2",
    fields={
        "smoke": {"lrs": (0.1, 0.2), "steps": 2, "seeds": 2},
        "laptop": {"lrs": (0.1, 0.2), "steps": 5, "seeds": 3},
    },
    study=searched,
    figures=lambda _frame, _study: (),
)
TABLE1 = Item(
    name="table1",
    title="Definitions",
    source="Table 1",
    fields={"smoke": {}},
    study=lambda: ((), None),
    figures=lambda _frame, _study: (),
    tables=lambda _frame, _study: (Table("Formulas", ("row", "formula"), (("none", "x"),)),),
)
EXPLODES = Claim(
    name="explodes",
    statement="Batch norm's gradients explode",
    source="section 4",
    items=("fig1",),
    effect=_growth,
    holds="above",
    threshold=0.5,
    remark="Theory says so too.",
)
LEARNS = Claim(
    name="learns", statement="It learns", source="section 5", items=("fig1", "fig2"), effect=_accuracy, holds="above",
    threshold=0.5,
)  # fmt: skip
PAPER = Paper(
    name="some-paper",
    title="A paper",
    reference="Nobody 2020, arXiv:0000.00000",
    items=(FIG1, FIG2, TABLE1),
    claims=(EXPLODES, LEARNS),
)
# The same paper, whose first figure may be run with and without skips apart.
PARTED = dataclasses.replace(
    PAPER,
    items=(dataclasses.replace(FIG1, parts=("", "skips")), FIG2, TABLE1),
    claims=(dataclasses.replace(EXPLODES, effect=_skips),),
)


def install(patch: pytest.MonkeyPatch, *papers: str) -> None:
    """Let these objects of this module, by name, be the papers that are installed."""
    real = importlib.metadata.entry_points

    def entry_points(**chosen: Any) -> Any:
        if chosen != {"group": GROUP}:
            return real(**chosen)
        return [importlib.metadata.EntryPoint(name.lower(), f"{__name__}:{name}", GROUP) for name in papers]

    patch.setattr(importlib.metadata, "entry_points", entry_points)


Values = Callable[[Trial], Iterable[Mapping[str, Any]]]


def norms(batchnorm: float, layernorm: float = 1.0) -> Values:
    """Rows of gradient norms at two sites, about these at the first, each seed a little further."""
    means = {"batchnorm": batchnorm, "layernorm": layernorm}

    def rows(trial: Trial) -> Iterable[Mapping[str, Any]]:
        first = means[trial.norm.name] + 0.01 * trial.seed * (trial.norm.name == "batchnorm")
        yield {"probe": "gradient_norm", "name": "norm", "value": first, "layer": "0", "depth": 1}
        yield {"probe": "gradient_norm", "name": "norm", "value": 1.0, "layer": "1", "depth": 2}

    return rows


def accuracies(trial: Trial) -> Iterable[Mapping[str, Any]]:
    """Rows of a training at two rates, of which the larger diverges and the smaller ends at 0.9."""
    diverged = trial.lr == 0.2
    if not diverged:
        name = "test_accuracy" if trial.id.startswith("final-") else "validation_accuracy"
        yield {"probe": "evaluation", "name": name, "value": 0.9 - 0.01 * trial.seed, "step": 2}
    yield {"probe": "outcome", "name": "diverged", "value": float(diverged), "step": 1 if diverged else 2}


PROVENANCE = {"command": "normscope run some-paper/fig1", "normscope": "0.1.0", "device": "cpu"}
DATA = {"name": "digits", "sha256": "c0" * 32, "sets": [{"name": "digits", "train": 48, "note": "A small part."}]}


def write_run(out: Path, study: Study, values: Values, *, started: str = "2026-11-20T12:00:00+00:00") -> Path:
    """A finished run folder of this study whose trials left these rows."""
    folder = out / study.folder_name
    folder.mkdir(parents=True)
    folders.write_json(folder / folders.DATA, DATA)
    folders.write_json(folder / folders.PROVENANCE, PROVENANCE | {"started": started})
    (folder / folders.RECIPE).write_bytes(study.to_json())
    known = 0
    while len(trials := records.trials(folder, study)) > known:
        for trial in trials[known:]:
            _write_trial(folder, trial, values)
        known = len(trials)
    folders.seal(folder, (folders.RECIPE, folders.PROVENANCE, folders.DATA))
    return folder


def _write_trial(folder: Path, trial: Trial, values: Values) -> None:
    place = folder / folders.TRIALS / trial.id
    place.mkdir(parents=True)
    with (place / folders.LIVE_ROWS).open("w") as live:
        rows = Rows(folder.name, trial, live)
        for row in values(trial):
            rows.add(**row)
    (place / folders.LIVE_ROWS).unlink()
    (place / folders.ROWS).write_bytes(rows.to_parquet())
    folders.write_json(place / folders.TRIAL, {"id": trial.id})
    folders.seal(place, (folders.TRIAL, folders.ROWS), seconds=2.0)
