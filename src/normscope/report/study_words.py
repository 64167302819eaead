"""The sentences and tables of an item's report that depend on its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from normscope.report import words
from normscope.report.tables import Table
from normscope.study.experiment import Experiment, Measurement, Study, Switch
from normscope.study.paper import Item, Paper

Facts = list[tuple[str, str]]


def asked(paper: Paper, item: Item, study: Study, data: Mapping[str, Any]) -> str:
    """Return what the item is and how much of it this run asked for."""
    opening = f"{item.source} of “{paper.title}” ({paper.reference}), at scale {study.scale}"
    if not study.experiments:
        return f"{opening}: it needs no experiment."
    norms = len({experiment.norm.label for experiment in study.experiments})
    said = f"{opening}: {_count(len(study.experiments), 'experiment')} with {_count(norms, 'normalizer')}"
    said += f" on {data['name']}" if data.get("name") else ""
    steps = [experiment.training.steps for experiment in study.experiments if experiment.training is not None]
    said += (
        f", {_count(len(steps), 'network')} trained for {_range(steps)} steps" if steps else ", none of them trained"
    )
    if study.final is not None:
        seeds = _count(len(study.final.seeds), "seed")
        said += f"; then each one's best learning rate again with {seeds}"
    return said + "."


def limits(study: Study, ended: int, planned: int) -> Iterator[str]:
    """Yield what holds for every item: which scale it speaks for, what intervals cover, what is still missing."""
    yield f"Everything here is of scale {study.scale} and says nothing about a larger one."
    if ended < planned:
        yield f"{planned - ended} of {planned} trials have not ended; everything here is without them."
    if len(_seeds(study)) == 1:
        yield "There is one seed, so nothing here has an interval and no claim is decided."
    elif study.experiments:
        yield (
            f"Intervals are 95 % Student-t intervals over {len(_seeds(study))} seeds, which vary initialization, batch "
            "order and noise on one fixed split of the data; they do not cover another split, data set or model. Of "
            "many comparisons some differ by chance; nothing here corrects for their number."
        )


def waiting(paper: Paper, item: Item, judged: Sequence[str]) -> Table | None:
    """Return the claims that rest on this item and were not judged here, with the other items that they need."""
    rows = tuple(
        (claim.name, claim.statement, ", ".join(name for name in claim.items if name != item.name) or "–")
        for claim in paper.claims
        if item.name in claim.items and claim.name not in judged
    )
    return Table("Claims that are not judged here", ("claim", "statement", "also needs"), rows) if rows else None


def divergences(frame: pd.DataFrame) -> Table | None:
    """Return which trials diverged, at which step; None where none did."""
    ended = frame[(frame["probe"] == "outcome") & (frame["name"] == "diverged")]
    by_group: dict[tuple[str, ...], list[str]] = {}
    for trial in ended[ended["value"] > 0].to_dict("records"):
        group = (trial["normalizer"], trial["condition"] or "–", f"{trial['lr']:g}")
        by_group.setdefault(group, []).append(f"seed {trial['seed']} at step {trial['step']}")
    if not by_group:
        return None
    rows = tuple((*group, ", ".join(dict.fromkeys(seeds))) for group, seeds in by_group.items())
    return Table("Diverged trials", ("normalizer", "condition", "learning rate", "last step reached"), rows)


def recipe(study: Study) -> tuple[Facts, Table]:
    """Return what all experiments of a study share, with every default; and what sets each apart, a row for each."""
    spelled = [_spelled(experiment) for experiment in study.experiments]
    names = list(dict.fromkeys(name for one in spelled for name in one))
    shared = [name for name in names if len(spelled) > 1 and len({one.get(name) for one in spelled}) == 1]
    apart = [name for name in names if name not in shared and name != "id"]
    rows = tuple((one["id"], *(one.get(name, "–") for name in apart)) for one in spelled)
    head = [("paper", study.paper), ("item", study.item), ("scale", study.scale)]
    facts = [*head, *((name, spelled[0][name]) for name in shared), *_final(study)]
    return facts, Table("What sets the experiments apart", ("experiment", *apart), rows)


def _final(study: Study) -> Facts:
    if study.final is None:
        return []
    return [
        ("final stage", "each group's best learning rate again"),
        ("final stage: seeds", ", ".join(map(str, study.final.seeds))),
        ("final stage: measurements", _measurements(study.final.measurements)),
    ]


def _spelled(experiment: Experiment) -> dict[str, str]:
    """Every field of an experiment as text, defaults among them; what is empty is left out."""
    fields = _plain(experiment) | {
        "norm": experiment.norm.label,
        "switches": "; ".join(map(_switch, experiment.switches)),
        "measurements": _measurements(experiment.measurements),
    }
    return dict(words.facts(fields))


def _plain(held: Any) -> Any:
    """Structs and tuples as dictionaries and lists, with every field."""
    if isinstance(held, msgspec.Struct):
        return {name: _plain(getattr(held, name)) for name in held.__struct_fields__}
    return list(held) if isinstance(held, tuple) else held


def _switch(switch: Switch) -> str:
    return " ".join([switch.name, *_options(switch.options)])


def _measurements(measurements: Sequence[Measurement]) -> str:
    return "; ".join(
        " ".join([one.probe, *_options(one.options), f"at step {', '.join(map(str, one.at))}"]) for one in measurements
    )


def _options(options: Mapping[str, Any]) -> list[str]:
    return [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in options.items()]


def _seeds(study: Study) -> set[int]:
    first = {seed for experiment in study.experiments for seed in experiment.seeds}
    return first if study.final is None else {*study.final.seeds}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
