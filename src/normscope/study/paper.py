"""A paper as code: items that are run as studies, claims that are judged from their rows, values it published.

Papers come from packages that register one under the entry point group `normscope.papers`. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from normscope.study.claims import Claim, Effect
from normscope.study.experiment import Experiment, Final, Measurement, ScaleName, Study
from normscope.study.fields import data_name, read

if TYPE_CHECKING:
    import importlib.metadata

    import pandas as pd

GROUP = "normscope.papers"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that a paper printed; only ever shown beside ours.

    Attributes:
        uncertainty: as the paper gives it; None where it gives none.
        measured: ours, from the rows of the item's run; None where they do not tell.
        gap: why ours may differ.
    """

    quantity: str
    normalizer: str
    value: float
    uncertainty: float | None
    unit: str
    measured: Callable[[pd.DataFrame], Effect | None]
    gap: str


def _no_tables(_frame: pd.DataFrame, _study: Study) -> tuple[Any, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Item:
    """A figure, table or failed experiment of a paper.

    Attributes:
        source: what the paper calls it, such as "Figure 2".
        fields: every size and choice, at each scale; the command line overrides them by name=value.
        study: the experiments, and the final stage if there is one, of those fields as keyword arguments.
        figures: specifications of `normscope.report` from the rows (this room does not know their class).
        tables: as `figures`, of `normscope.report.Table`.
        reads: other items whose newest runs the tables read too, told apart by the column `item`.
        parts: conditions that may be run apart; runs that hold different ones are read together.
        notes: what is a reconstruction, and what is reduced at each scale.
        published: values in the paper.
    """

    name: str
    title: str
    source: str
    fields: Mapping[ScaleName, Mapping[str, Any]]
    study: Callable[..., tuple[tuple[Experiment, ...], Final | None]]
    figures: Callable[[pd.DataFrame, Study], tuple[Any, ...]]
    tables: Callable[[pd.DataFrame, Study], tuple[Any, ...]] = _no_tables
    reads: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper: its items and its claims.

    Attributes:
        reference: authors, year and where it is found.
        shipped: verdicts of the runs that came with the package, as `study.judging` writes them.
    """

    name: str
    title: str
    reference: str
    items: tuple[Item, ...]
    claims: tuple[Claim, ...]
    shipped: Path | None = None

    def __post_init__(self) -> None:
        _distinct(f"the items of {self.name}", [item.name for item in self.items])
        _distinct(f"the claims of {self.name}", [claim.name for claim in self.claims])
        for claim in self.claims:
            if not claim.items:
                raise ValueError(f"the claim {claim.name} of {self.name} must name the items whose rows it needs.")
            for name in claim.items:
                self.item(name)

    def item(self, name: str) -> Item:
        """The item of this name; ValueError where there is none."""
        for item in self.items:
            if item.name == name:
                return item
        raise ValueError(f"{self.name} has no item {name!r}; {_nearest(name, [item.name for item in self.items])}.")


def papers() -> tuple[Paper, ...]:
    """Every installed paper, sorted by name; ValueError where one cannot be loaded."""
    import importlib.metadata  # a tenth of what `normscope --help` costs, which asks for no paper

    return tuple(sorted(map(_load, importlib.metadata.entry_points(group=GROUP)), key=lambda paper: paper.name))


def find(name: str) -> tuple[Paper, Item]:
    """The item that `name` means: PAPER/ITEM, or ITEM alone where one paper has an item of that name.

    Raises:
        ValueError: there is none, or there are several; close names are named.
    """
    known = {f"{paper.name}/{item.name}": (paper, item) for paper in papers() for item in paper.items}
    meant = [full for full in known if name in (full, full.rpartition("/")[2])]
    if len(meant) == 1:
        return known[meant[0]]
    if meant:
        raise ValueError(f"{name} is an item of several papers; write {' or '.join(meant)}.")
    if not known:
        raise ValueError(f"there is no item {name!r}: no paper is installed; install the package normscope again.")
    same_paper = [full for full in known if full.startswith(f"{name.rpartition('/')[0]}/")]
    raise ValueError(f"there is no item {name!r}; {_nearest(name, same_paper or list(known))}.")


def study_of(paper: Paper, item: Item, scale: ScaleName, overrides: Mapping[str, str]) -> Study:
    """The recipe of an item at a scale, with some of its fields set by hand.

    A text is read as what the field holds at any scale: a whole number, a number, true or false, a name, a normalizer
    as in `recipe.parse_norm`, several of them separated by commas, or none where the field may be left open. Every
    item also takes `data`, the name or place of its data set, but for those with fields such as `cifar10_data`.

    Raises:
        ValueError: no such scale or field (close ones are named), a text that the field cannot hold, fields that leave
            nothing to run or nothing to train for, a step to measure at that training does not reach, or experiments of
            the same id.
    """
    if scale not in item.fields:
        raise ValueError(f"{item.name} has no scale {scale!r}; choose from {', '.join(item.fields)}.")
    defaults = item.fields[scale]
    for name in overrides:
        if name not in (*defaults, "data"):
            every = sorted({*defaults, "data"})
            raise ValueError(f"{item.name} has no field {name!r}{_close(name, every)}; it has {', '.join(every)}.")
    given = {
        name: read(name, text, [defaults[name], *(other[name] for other in item.fields.values() if name in other)])
        for name, text in overrides.items()
        if name in defaults
    }
    places = [name for name in defaults if name.endswith("_data")]
    if "data" in overrides and places:  # else rows of one data set would carry the names of several
        raise ValueError(f"{item.name} has data sets of its own; set {', '.join(places)} in place of data.")
    experiments, final = item.study(**{**defaults, **given})
    if "data" in overrides and "data" not in defaults:
        experiments = tuple(_on(data_name(overrides["data"]), experiment) for experiment in experiments)
    if not experiments and overrides and item.study(**defaults)[0]:
        asked = " ".join(f"{name}={text}" for name, text in overrides.items())
        raise ValueError(f"{item.name} has nothing to run with {asked}; leave out what empties it.")
    _check_ids(item, [experiment.id for experiment in experiments])
    study = _canonical(Study(paper=paper.name, item=item.name, scale=scale, experiments=experiments, final=final))
    for experiment in study.experiments:
        _check_training(item, experiment, () if final is None else final.measurements)
    return study


def _load(entry: importlib.metadata.EntryPoint) -> Paper:
    try:
        paper = entry.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"the paper {entry.name} ({entry.value}) cannot be loaded: {error}; repair its package."
        ) from error
    if not isinstance(paper, Paper):
        raise ValueError(f"the paper {entry.name} ({entry.value}) must be a Paper, got {type(paper).__name__}.")
    return paper


def _canonical(study: Study) -> Study:
    """The study as its file gives it back, checked on the way; so that a run folder holds what was asked for."""
    try:
        return msgspec.json.decode(study.to_json(), type=Study)
    except msgspec.ValidationError as error:
        raise ValueError(f"{study.item} of {study.paper} cannot be run like this: {error}.") from None


def _on(name: str, experiment: Experiment) -> Experiment:
    return msgspec.structs.replace(experiment, data=msgspec.structs.replace(experiment.data, name=name))


def _check_ids(item: Item, ids: Sequence[str]) -> None:
    _distinct(f"the experiments of {item.name}", ids)
    for name in ids:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]{0,199}", name):
            raise ValueError(
                f"the id of an experiment of {item.name} must be the name of a folder: at most 200 letters, digits and "
                f"_.,=+-, got {name!r}."
            )


def _check_training(item: Item, experiment: Experiment, final: Sequence[Measurement]) -> None:
    training = experiment.training
    steps = 0 if training is None else training.steps
    if training is not None and steps < 1:
        raise ValueError(f"{item.name} must train for at least 1 step, got {steps}.")
    if training is not None and not 0 <= training.penalty_weight < math.inf:
        raise ValueError(f"penalty_weight must not be negative, got {training.penalty_weight}.")
    for measurement in (*experiment.measurements, *(final if training is not None else ())):
        for step in measurement.at:
            if not 0 <= step <= steps:
                raise ValueError(
                    f"{item.name} measures {measurement.probe} at a step between 0 and the {steps} of training, got "
                    f"{step}; change the one or the other."
                )


def _distinct(what: str, names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"{what} must not share a name, got twice: {', '.join(twice)}.")


def _nearest(word: str, words: Sequence[str]) -> str:
    """The words that may have been meant, or all of them."""
    return _close(word, words).removeprefix("; ") or f"choose from {', '.join(words)}"


def _close(word: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}" if close else ""
