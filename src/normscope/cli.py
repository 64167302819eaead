"""The command line: `normscope compare | norms | status | resume | report | papers | run | convert`.

The options of `compare` are the fields of `study.Options`. A command is a frozen dataclass; parsing makes one, `run`
does the work. A user's error ends in one line on stderr and exit code 2.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol, TypeAlias

import tyro

from normscope.console.arguments import parse
from normscope.console.norms import BadgesFailedError, Form, print_badges
from normscope.study import InlineEngine, LocalEngine, Options, Recipe, Study, TrialsFailedError, compare, records
from normscope.study import folder as folders
from normscope.study.experiment import ScaleName


class Command(Protocol):
    """What parsing gives."""

    def run(self) -> None:
        """Do it; a user's error raises ValueError or OSError with one line."""


@dataclass(frozen=True, kw_only=True)
class _Local:
    """How trials run on this machine; none of it changes the numbers while each worker has one thread."""

    workers: int | None = None
    """Worker processes, by default one per CPU; 0 runs every trial in this process."""

    threads_per_worker: int | None = None
    """Threads of each worker: 1; with one worker and spectra, one per CPU. Other than 1, results may differ in the last
    digits."""

    def drive(self, recipe: Recipe | Study, out: Path) -> None:
        """Run what is left of the comparison or the item, with progress, and print its results."""
        from normscope.console.papers import print_item, write_report
        from normscope.console.progress import progress
        from normscope.console.tables import print_results

        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = cpus if self.workers is None else self.workers
        if workers < 0:
            raise ValueError(f"workers must not be negative, got {workers}.")
        alone = workers == 1 and recipe.measures_curvature
        threads = (cpus if alone else 1) if self.threads_per_worker is None else self.threads_per_worker
        if threads < 1:
            raise ValueError(f"threads-per-worker must be at least 1, got {threads}.")
        command = shlex.join(["normscope", *sys.argv[1:]])
        engine = LocalEngine(workers=workers, threads_per_worker=threads) if workers else InlineEngine(threads=threads)
        with progress(workers=max(workers, 1)) as listen:
            folder = compare(recipe, out=out, engine=engine, command=command, write_report=write_report, listen=listen)
        print_item(folder) if isinstance(recipe, Study) else print_results(folder)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare normalizers at initialization, by depth, and in the first steps of training, over rates and seeds.

    Goes on where an earlier run of the same comparison stopped; a finished one is only printed.
    """

    comparison: tyro.conf.OmitArgPrefixes[Options] = field(default_factory=Options)
    machine: tyro.conf.OmitArgPrefixes[_Local] = field(default_factory=_Local)

    out: Path = Path("runs")
    """Folder that run folders are made in."""

    def run(self) -> None:
        """See `Command`."""
        self.machine.drive(self.comparison.resolve(), self.out)


@dataclass(frozen=True, kw_only=True)
class Norms:
    """List the normalizers; with --check, what each can be trusted with on this machine."""

    check: bool = False
    """Check every trust badge of every normalizer: a minute, and minutes more for compile and ddp."""

    norms: tuple[str, ...] | None = None
    """Check these alone, each NAME or NAME:OPTION=VALUE."""

    badges: tuple[str, ...] | None = None
    """Check these alone: reference, gradcheck, gradgradcheck, hessian, fp16/bf16, channels_last, compile, ddp,
    state_dict, train=eval."""

    device: str | None = None
    """Check there: cpu, unless another is named."""

    json: bool = False
    """As JSON."""

    markdown: bool = False
    """The badges as a Markdown table."""

    def run(self) -> None:
        """See `Command`."""
        if self.json and self.markdown:
            raise ValueError("--json and --markdown are two ways to say the same; choose one.")
        if self.check:
            form: Form = "json" if self.json else "markdown" if self.markdown else "text"
            print_badges(self.norms, self.badges, device=self.device or "cpu", form=form)
            return
        for option in ("norms", "badges", "device", "markdown"):
            if getattr(self, option):
                raise ValueError(f"--{option} is an option of the check; add --check.")
        from normscope.console.tables import print_normalizers

        print_normalizers(as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Put another normalizer into a model; print what happened, write a checkpoint and the lines that load it."""

    model: tyro.conf.Positional[str]
    """module:factory, timm:NAME, torchvision:NAME or hf:CONFIG."""

    to: str
    """The normalizer, NAME or NAME:OPTION=VALUE, as `normscope norms` lists them."""

    out: Path | None = None
    """Checkpoint to write, NAME.safetensors; the loader NAME.py beside it. By default named after model and
    normalizer, in the current folder."""

    input_shape: tuple[int, ...] | None = None
    """Shape of the inputs that the model is run on once, batch included (2,3,224,224): by default what its library
    says."""

    pretrained: bool = False
    """Begin with the weights that the model's library offers, which may download them."""

    def run(self) -> None:
        """See `Command`."""
        from normscope.console.convert import convert

        convert(self.model, self.to, out=self.out, input_shape=self.input_shape, pretrained=self.pretrained)


@dataclass(frozen=True, kw_only=True)
class Status:
    """Say which runs there are and how far each is."""

    runs: tyro.conf.Positional[Path] = Path("runs")
    """A run folder, or a folder of runs."""

    json: bool = False
    """As JSON."""

    def run(self) -> None:
        """See `Command`."""
        from normscope.console.tables import print_status

        print_status(self.runs, as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with every unfinished run, from what its folder says."""

    runs: tyro.conf.Positional[Path] = Path("runs")
    """A run folder, or a folder of runs."""

    machine: tyro.conf.OmitArgPrefixes[_Local] = field(default_factory=_Local)

    def run(self) -> None:
        """See `Command`."""
        for folder in folders.run_folders(self.runs):
            recipe = records.resolved(folder)
            if folder.resolve().name != recipe.folder_name:
                raise ValueError(f"{folder} was renamed; call it {recipe.folder_name} again to resume it.")
            self.machine.drive(recipe, folder.parent)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the figures and the report of every run anew, from its rows."""

    runs: tyro.conf.Positional[Path] = Path("runs")
    """A run folder, or a folder of runs."""

    def run(self) -> None:
        """See `Command`."""
        from normscope.console.papers import write_report

        for folder in folders.run_folders(self.runs):
            print(write_report(folder))


@dataclass(frozen=True, kw_only=True)
class Papers:
    """List the figures, tables and claims of papers, each claim with its last verdict."""

    papers: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which, by name; all of them by default."""

    runs: tuple[Path, ...] = ()
    """Run folders, or folders of runs, that claims are judged from: runs/ where there are any. What these do not decide
    has the verdict that came with normscope."""

    json: bool = False
    """As JSON."""

    page: Path | None = None
    """Write a page instead: every item with its newest run, every claim with its verdict."""

    def run(self) -> None:
        """See `Command`."""
        from normscope.console.papers import print_papers, write_page

        if self.page is None:
            print_papers(self.papers, self.runs, as_json=self.json)
        elif self.json:
            raise ValueError("--json and --page are two ways to say the same; choose one.")
        else:
            write_page(self.page, self.papers, self.runs)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run one figure, table or experiment of a paper, and judge the claims that rest on it.

    Goes on where an earlier run of the same stopped; a finished one is only printed.
    """

    item: tyro.conf.Positional[str]
    """PAPER/ITEM, as `normscope papers` lists them."""

    fields: tyro.conf.Positional[tuple[str, ...]] = ()
    """Sizes and choices to set otherwise than the scale does, each NAME=VALUE,VALUE: data=path/to/cifar10 seeds=5."""

    scale: ScaleName = "laptop"
    """Size of everything left out: smoke (seconds), laptop (two cores), paper (the paper's, for a GPU)."""

    machine: tyro.conf.OmitArgPrefixes[_Local] = field(default_factory=_Local)

    out: Path = Path("runs")
    """Folder that run folders are made in."""

    def run(self) -> None:
        """See `Command`."""
        from normscope.console.papers import study

        self.machine.drive(study(self.item, self.scale, self.fields), self.out)


_Commands: TypeAlias = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Norms, tyro.conf.subcommand("norms")]
    | Annotated[Status, tyro.conf.subcommand("status")]
    | Annotated[Resume, tyro.conf.subcommand("resume")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Papers, tyro.conf.subcommand("papers")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 2 for a user's error, 1 if trials or badges failed, 130 after Ctrl-C."""
    try:
        command: Command = parse(_Commands, sys.argv[1:] if arguments is None else arguments)
        command.run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _end("interrupted; finished trials are kept, and the same command resumes.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; do not complain at exit
        return 141
    except ValueError as error:
        return _end(str(error), 2)
    except OSError as error:
        return _end(
            f"{_explain(error)}; finished trials are kept, so put that right and run the same command again.", 2
        )
    except (TrialsFailedError, BadgesFailedError) as error:
        return _end(str(error), 1)
    return 0


def _explain(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


def _end(message: str, code: int) -> int:
    print(f"normscope: {' '.join(message.split())}", file=sys.stderr)
    return code
