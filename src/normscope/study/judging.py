"""Judge a paper's claims from the runs of its items, and keep the verdicts, in a run folder or a package."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import msgspec

from normscope.study import folder as folders
from normscope.study import records
from normscope.study.claims import Claim, Verdict, judge
from normscope.study.experiment import ScaleName, Study
from normscope.study.paper import Paper, find, study_of

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = "verdicts.json"
SCALES: tuple[ScaleName, ...] = get_args(ScaleName)  # from the smallest to the largest


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of an item: where it lies, when it was started, and the seconds its trials took together.

    `older` are runs that hold parts of the item which this one lacks.
    """

    folder: Path
    study: Study
    started: datetime
    seconds: float
    older: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        """What verdicts call it."""
        return self.folder.resolve().name

    @property
    def together(self) -> tuple[Run, ...]:
        """The run itself and the older ones."""
        return (self, *self.older)

    @property
    def conditions(self) -> frozenset[str]:
        """Those of its experiments."""
        return frozenset(experiment.condition for experiment in self.study.experiments)

    def rows(self) -> pd.DataFrame:
        """The rows of all its trials, and of the older runs'."""
        import pandas as pd

        return pd.concat([records.load(run.folder) for run in self.together], ignore_index=True)


Newest: TypeAlias = Mapping[tuple[str, str, str], Run]  # by (paper, item, scale)
Seconds: TypeAlias = Mapping[str, Mapping[str, float]]  # by item and scale


def newest(paths: Iterable[Path]) -> Newest:
    """The finished run that was started last of each paper, item and scale, at or below the paths.

    Of an item with parts it comes with the older runs whose parts it lacks, each part from the newest that has it.

    Raises:
        ValueError: a path holds no run, or a file of one is damaged.
    """
    folder_names = dict.fromkeys(folder for path in paths for folder in folders.run_folders(path))
    found = [run for folder in folder_names if folders.is_sealed(folder) and (run := _whole(folder)) is not None]
    found.sort(key=lambda run: (run.started, run.name))
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in found:
        groups.setdefault((run.study.paper, run.study.item, run.study.scale), []).append(run)
    return {key: _composed(runs) for key, runs in groups.items()}


def _composed(runs: Sequence[Run]) -> Run:
    """The last of these runs of one item, with those before it that hold other parts and no part twice."""
    *before, last = runs
    parts, held, older = _parts(last.study), last.conditions, []
    for run in reversed(before):
        if run.conditions <= parts and not run.conditions & held:
            older.append(run)
            held |= run.conditions
    return dataclasses.replace(last, older=tuple(older))


def _parts(study: Study) -> frozenset[str]:
    try:
        _, item = find(f"{study.paper}/{study.item}")
    except ValueError:  # a run of a paper that is not installed
        return frozenset()
    return frozenset(item.parts)


def verdicts(paper: Paper, runs: Sequence[Path]) -> tuple[Verdict, ...]:
    """One verdict for each claim whose items were all run at one scale; at the largest such scale.

    Of several finished runs of an item at that scale, the one that was started last counts.

    Args:
        paper: whose claims.
        runs: run folders, or folders of runs.
    """
    return _verdicts(paper, newest(runs))


def last_verdicts(paper: Paper, runs: Newest) -> tuple[Verdict, ...]:
    """A verdict for every claim, in order: of these runs; else the one that came with the paper; else "not judged"."""
    known = {verdict.claim: verdict for verdict in (*_shipped(paper).verdicts, *_verdicts(paper, runs))}
    return tuple(known.get(claim.name, _not_judged(claim)) for claim in paper.claims)


def seconds(paper: Paper, runs: Newest) -> Seconds:
    """What the trials of each item took together at each scale: in these runs, else in those of the package."""
    shipped, here = _shipped(paper).seconds, measured(paper, runs)
    return {item.name: {**shipped.get(item.name, {}), **here[item.name]} for item in paper.items}


def measured(paper: Paper, runs: Newest) -> Seconds:
    """What the trials of each item took together at each scale, in these runs alone."""
    return {
        item.name: {
            scale: sum(run.seconds for run in whole.together)
            for scale in SCALES
            if (whole := runs.get((paper.name, item.name, scale)))
        }
        for item in paper.items
    }


def judge_run(folder: Path) -> tuple[Verdict, ...]:
    """The verdicts of the claims that a run takes part in, at its scale; none before all of its trials are finished.

    A claim that rests on other items too is judged where the newest finished run of each lies beside this one.
    """
    run = _whole(folder)
    if run is None:
        return ()
    paper, item = find(f"{run.study.paper}/{run.study.item}")
    claims = [claim for claim in paper.claims if item.name in claim.items]
    others = newest(_beside(run, {name for claim in claims for name in claim.items}))
    chosen, frames = {**others, (paper.name, item.name, run.study.scale): run}, _Frames()
    found = (_judge(paper, claim, run.study.scale, chosen, frames) for claim in claims)
    return tuple(verdict for verdict in found if verdict is not None)


def rows_beside(folder: Path, items: Iterable[str]) -> pd.DataFrame:
    """The rows of an item's run and, of each of these items, of the newest finished run beside it at the same scale.

    The column `item` says which is whose.
    """
    study = records.resolved(folder)
    assert isinstance(study, Study)
    run = Run(folder, study, datetime.min, 0.0)
    return rows_together(run, items, newest(_beside(run, set(items))))


def rows_together(run: Run, items: Iterable[str], runs: Newest) -> pd.DataFrame:
    """The rows of an item's run and of these other items of its paper at its scale, as far as `runs` has them.

    The column `item` says which is whose.
    """
    import pandas as pd

    keys = [(run.study.paper, item, run.study.scale) for item in items if item != run.study.item]
    together = [run, *(runs[key] for key in keys if key in runs)]
    return pd.concat([one.rows().assign(item=one.study.item) for one in together], ignore_index=True)


def write(path: Path, verdicts: Iterable[Verdict], *, seconds: Seconds | None = None) -> None:
    """Write verdicts as JSON, NaN as null; and what runs took, where that is given."""
    content: dict[str, Any] = {"verdicts": [plain(verdict) for verdict in verdicts]}
    folders.write_json(path, content | ({} if seconds is None else {"seconds": seconds}))


def read(path: Path) -> tuple[Verdict, ...]:
    """The verdicts of a file that `write` wrote; ValueError where it is missing or damaged."""
    return _read(path).verdicts


def plain(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON holds it."""
    fields = dataclasses.asdict(verdict)
    return {name: None if isinstance(held, float) and math.isnan(held) else held for name, held in fields.items()}


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a file of verdicts holds."""

    verdicts: tuple[Verdict, ...] = ()
    seconds: Seconds = dataclasses.field(default_factory=dict)


def _read(path: Path) -> _Kept:
    content = folders.read_json(path)
    try:
        for verdict in content["verdicts"]:
            verdict |= {name: math.nan for name in ("mean", "low", "high") if verdict[name] is None}
        return msgspec.convert(content, _Kept)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"{path} is damaged: it holds no verdicts ({error}); write it again.") from None


def _shipped(paper: Paper) -> _Kept:
    return _read(paper.shipped) if paper.shipped is not None and paper.shipped.is_file() else _Kept()


@dataclass(frozen=True)
class _Frames:
    """Rows of runs, each read once."""

    read: dict[Path, pd.DataFrame] = dataclasses.field(default_factory=dict)

    def of(self, runs: Sequence[Run]) -> pd.DataFrame:
        """The rows of these runs in one frame, with the column `item`."""
        import pandas as pd

        for run in runs:
            if run.folder not in self.read:
                self.read[run.folder] = run.rows().assign(item=run.study.item)
        return pd.concat([self.read[run.folder] for run in runs], ignore_index=True)


def _verdicts(paper: Paper, runs: Newest) -> tuple[Verdict, ...]:
    frames = _Frames()
    found = []
    for claim in paper.claims:
        by_scale = (_judge(paper, claim, scale, runs, frames) for scale in reversed(SCALES))
        found.append(next((verdict for verdict in by_scale if verdict is not None), None))
    return tuple(verdict for verdict in found if verdict is not None)


def _judge(paper: Paper, claim: Claim, scale: ScaleName, chosen: Newest, frames: _Frames) -> Verdict | None:
    """The verdict at this scale; None where an item has no run there."""
    runs = [run for item in claim.items if (run := chosen.get((paper.name, item, scale))) is not None]
    if len(runs) < len(claim.items):
        return None
    whole = [part for run in runs for part in run.together]
    verdict = judge(claim, frames.of(runs), scale=scale, runs=[run.name for run in whole])
    changed = dict.fromkeys(run.study.item for run in whole if _is_changed(paper, run.study))
    if not changed:
        return verdict
    said = f"The run of {' and of '.join(changed)} has other sizes than scale {scale} asks for."
    return dataclasses.replace(verdict, remark=" ".join(filter(None, [verdict.remark, said])))


def _is_changed(paper: Paper, study: Study) -> bool:
    """Whether fields were set by hand, the place of the data aside, or the scale has come to mean something else."""
    item = paper.item(study.item)
    if study.scale not in item.fields:
        return True
    asked = study_of(paper, item, study.scale, {})
    if item.parts:  # those that were run
        conditions = {experiment.condition for experiment in study.experiments}
        kept = tuple(experiment for experiment in asked.experiments if experiment.condition in conditions)
        asked = msgspec.structs.replace(asked, experiments=kept)
    return _without_data(study) != _without_data(asked)


def _without_data(study: Study) -> Study:
    nowhere = [
        msgspec.structs.replace(experiment, data=msgspec.structs.replace(experiment.data, name=""))
        for experiment in study.experiments
    ]
    return msgspec.structs.replace(study, experiments=tuple(nowhere))


def _not_judged(claim: Claim) -> Verdict:
    nothing = (math.nan, math.nan, math.nan, 0)
    held = f"{claim.holds} {claim.threshold:g}"
    return Verdict(claim.name, claim.statement, claim.source, "", "not judged", "", held, *nothing, claim.remark, ())


def _whole(folder: Path) -> Run | None:
    """The run of an item whose trials are all finished; None where it is not one, or some are not."""
    study = records.resolved(folder)
    if not isinstance(study, Study):
        return None
    trials = records.trials(folder, study)
    done = records.finished(folder, trials)
    if len(done) < len(trials):
        return None
    started = datetime.fromisoformat(records.provenance(folder)["started"])
    return Run(folder, study, started, sum(done.values()))


def _beside(run: Run, items: Iterable[str]) -> list[Path]:
    """Run folders of these items of the same paper in the same place; one that was renamed is not known for one."""
    place = run.folder.resolve().parent
    patterns = [f"{run.study.paper}-{item}-{'[0-9a-f]' * 12}" for item in items if item != run.study.item]
    return [path for pattern in patterns for path in sorted(place.glob(pattern)) if folders.is_run_folder(path)]
