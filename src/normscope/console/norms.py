"""`normscope norms --check`: trust badges of the normalizers, with progress, as a table, as Markdown or as JSON."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from normscope.study.recipe import parse_norm

if TYPE_CHECKING:
    import torch

    from normscope.trust import Badge, Environment, Outcome, Result

Form: TypeAlias = Literal["text", "markdown", "json"]
_SECONDS_BETWEEN_LINES = 10.0
_MARKS = {"passed": "✓", "failed": "**✗**", "does not apply": "–", "not run here": "?"}
_WORDS = {"failed": "FAILED", "does not apply": "-", "not run here": "?"}


class BadgesFailedError(RuntimeError):
    """Some badges failed; the message names them."""


def print_badges(norms: Sequence[str] | None, badges: Sequence[str] | None, *, device: str, form: Form) -> None:
    """Check badges of normalizers and print what was found.

    Args:
        norms: NAME or NAME:OPTION=VALUE each; None for the whole table.
        badges: by name; None for all.
        device: that sites are checked on.
        form: of what is printed on stdout; progress goes to stderr.

    Raises:
        ValueError: an unknown normalizer, badge or device.
        BadgesFailedError: a badge failed; everything is printed before.
    """
    plain = None if norms is None else [parse_norm(norm) for norm in norms]

    import normscope as ns
    from normscope import trust

    rows = ns.normalizers() if plain is None else [ns.normalizer(norm["name"], **norm["options"]) for norm in plain]
    names = [row.name for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"norms must not name one twice, got {', '.join(twice)}; check them one after the other.")
    chosen = trust.select(badges)
    place = _device(device)
    with _progress(len(rows) * len(chosen)) as listen:
        results = trust.check(rows, chosen, device=place, listen=listen)
    environment = trust.environment(place)
    print({"text": as_text, "markdown": as_markdown, "json": as_json}[form](chosen, results, environment))
    if failures := [result for result in results if result.outcome.state == "failed"]:
        which = ", ".join(f"{result.normalizer} {result.badge}" for result in failures)
        raise BadgesFailedError(f"{len(failures)} of {len(results)} badges failed: {which}.")


def _device(text: str) -> torch.device:
    import torch

    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device must be one that this torch can use, got {text!r} ({reason}); use cpu.") from None
    if device.type == "meta":
        raise ValueError("device must be one that computes, got 'meta'; use cpu.")
    return device


def as_text(badges: Sequence[Badge], results: Sequence[Result], environment: Environment) -> str:
    """A table of measured numbers with the bounds above, what is not a pass in words, and what each badge says."""
    names = [badge.name for badge in badges]
    width = {name: max(len(name), 8) for name in names}

    def line(head: str, cells: Sequence[str]) -> str:
        padded = (f"{cell:<{width[name]}}" for name, cell in zip(names, cells, strict=True))
        return f"{head:<16} {'  '.join(padded)}".rstrip()

    bounds = _bounds(names, results)
    lines = [line("", names), line("at most", [_number(bounds[name]) for name in names])]
    for row, outcomes in _by_row(results).items():
        lines.append(line(row, [_cell(outcomes[name]) for name in names]))
    lines += _paragraph(_remarks(results)) + [""] + [f"{badge.name:<16} {badge.says}" for badge in badges]
    return "\n".join([*lines, "", _provenance(environment)])


def as_markdown(badges: Sequence[Badge], results: Sequence[Result], environment: Environment) -> str:
    """A table of marks with the largest number of each badge below, and the rest in words."""
    names = [badge.name for badge in badges]
    bounds = _bounds(names, results)
    largest = {name: _largest(result for result in results if result.badge == name) for name in names}
    lines = [_markdown_line("", names), _markdown_line("---", [":-:"] * len(names))]
    for row, outcomes in _by_row(results).items():
        lines.append(_markdown_line(f"`{row}`", [_MARKS[outcomes[name].state] for name in names]))
    lines.append(_markdown_line("largest of those passed", [_number(largest[name]) for name in names]))
    lines.append(_markdown_line("bound", [_number(bounds[name]) for name in names]))
    lines.append("\n✓ passed, **✗** failed, – does not apply, ? not run here.\n")
    lines += [f"- **{badge.name}**: {badge.says}." for badge in badges]
    lines += _paragraph([f"- {remark}." for remark in _remarks(results)])
    return "\n".join([*lines, "", _provenance(environment)])


def as_json(badges: Sequence[Badge], results: Sequence[Result], environment: Environment) -> str:
    """Everything. A number that JSON lacks is null, and in words in the reason."""
    document = {
        "environment": asdict(environment),
        "badges": [{"name": badge.name, "says": badge.says} for badge in badges],
        "outcomes": [
            {"normalizer": result.normalizer, "badge": result.badge, **_plain(result.outcome), "seconds": seconds}
            for result in results
            for seconds in [round(result.seconds, 3)]
        ],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def _plain(outcome: Outcome) -> dict[str, Any]:
    plain = {"outcome": outcome.state, **{name: getattr(outcome, name) for name in ("measured", "bound", "reason")}}
    if outcome.measured is not None and not math.isfinite(outcome.measured):
        plain |= {"measured": None, "reason": f"measured {outcome.measured}; {outcome.reason}"}
    return plain


def _by_row(results: Sequence[Result]) -> dict[str, dict[str, Outcome]]:
    table: dict[str, dict[str, Outcome]] = {}
    for result in results:
        table.setdefault(result.normalizer, {})[result.badge] = result.outcome
    return table


def _bounds(names: Sequence[str], results: Sequence[Result]) -> dict[str, float | None]:
    known = {result.badge: result.outcome.bound for result in results if result.outcome.bound is not None}
    return {name: known.get(name) for name in names}


def _largest(results: Iterator[Result]) -> float | None:
    passed = (result.outcome for result in results if result.outcome.state == "passed")
    return max((outcome.measured for outcome in passed if outcome.measured is not None), default=None)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _cell(outcome: Outcome) -> str:
    if outcome.state != "passed":
        return _WORDS[outcome.state]
    return "ok" if outcome.measured is None else _number(outcome.measured)


def _remarks(results: Sequence[Result]) -> list[str]:
    """What is not a plain pass, one line for all rows of which the same is to be said."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for result in results:
        outcome = result.outcome
        if outcome.state != "passed" or outcome.reason:
            shown = outcome.state != "failed" or outcome.measured is None
            number = "" if shown else f", {_number(outcome.measured)} of at most {_number(outcome.bound)}"
            key = (result.badge, f"{outcome.state}{number}", outcome.reason)
            rows.setdefault(key, []).append(result.normalizer)
    return [f"{badge} of {', '.join(names)}: {state}; {reason}" for (badge, state, reason), names in rows.items()]


def _paragraph(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _markdown_line(head: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([head, *cells])} |"


def _provenance(environment: Environment) -> str:
    return f"torch {environment.torch}, Python {environment.python}, {environment.device}."


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[str, str], None]]:
    """Show what is checked on stderr: a bar on a terminal, now and then a line elsewhere."""
    if not sys.stderr.isatty():
        yield _lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(SpinnerColumn(), *columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("starting", total=total, completed=-1)
        yield lambda row, badge: bar.update(task, description=f"{row}: {badge}", advance=1)


def _lines(total: int) -> Callable[[str, str], None]:
    done, last = -1, time.monotonic()

    def listen(row: str, badge: str) -> None:
        nonlocal done, last
        done += 1
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"  {done}/{total} badges; {row}: {badge}", file=sys.stderr, flush=True)

    return listen
