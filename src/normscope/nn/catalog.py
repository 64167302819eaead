"""How a row of the table, or one that another package registers, is found by its name and given options."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any, get_args, get_type_hints

from normscope.nn import plugins
from normscope.nn.normalizer import Normalizer
from normscope.nn.options import Among, Domain, Flag, Number, Power
from normscope.nn.plugins import External
from normscope.nn.table import TABLE


def normalizers() -> tuple[Normalizer | External, ...]:
    """Return the whole table, in order; after the rows of this package those that others register, by name.

    Where one of these cannot be had, the rest is returned, and one warning says which and why.
    """
    return (*TABLE, *plugins.rows(taken=_NAMES))


def normalizer(name: str, **options: Any) -> Normalizer | External:
    """Return one row, with options: a `Normalizer`, or what another package registers under this name.

    Args:
        name: the row's name, one of those of `normalizers()`.
        options: those of ``normalizer(name).options``: affine, eps, moment, momentum, evaluation, running_variance,
            over, p, penalty, penalty_over, penalty_unbiased, derivative, as far as they mean something to the row, and
            what the row has for itself.

    Raises:
        ValueError: unknown name or option (the close ones are named), or a value outside the option's range; a row of
            another package that cannot be had.
    """
    row = next((row for row in TABLE if row.name == name), None)
    if row is None:
        return _from_outside(name, options)
    return _with(row, options)


def _from_outside(name: str, options: dict[str, Any]) -> Normalizer | External:
    row = plugins.find(name, taken=_NAMES)
    if row is None:
        names = [row.name for row in normalizers()]
        raise ValueError(f"Unknown normalizer {name!r}; {_nearest(name, names)}.")
    if isinstance(row, Normalizer):
        return _with(row, options)
    _check_names(row, options)
    return row.remade(options)


def _check_names(row: Normalizer | External, options: dict[str, Any]) -> None:
    for option in options:
        if option not in row.options:
            near = _nearest(option, list(row.options)) if row.options else "it has none"
            raise ValueError(f"Unknown option {option!r} of {row.name}; {near}.")


def _with(row: Normalizer, options: dict[str, Any]) -> Normalizer:
    _check_names(row, options)
    for option, value in options.items():
        domain = _domain(row, option)
        if not domain.accepts(value):
            raise ValueError(f"Option {option} of {row.name} must be {domain.words}, got {value!r}.")
    own = {setting.name for setting in row.settings}
    settings = tuple(dataclasses.replace(s, value=options[s.name]) if s.name in options else s for s in row.settings)
    fields = {
        "elementwise_affine" if option == "affine" else option: value
        for option, value in options.items()
        if option not in own
    }
    row = _taken_over(row, fields.pop("over", row.over))
    row = dataclasses.replace(row, settings=settings, **fields)
    if row.penalty_unbiased and row.penalty != "A":
        raise ValueError(
            f"penalty_unbiased goes with penalty form 'A', got form {row.penalty!r}; leave one of them out."
        )
    return row


def _taken_over(row: Normalizer, over: str) -> Normalizer:
    """Move the row's layer statistics to `over`."""

    def moved(statistic: str | None) -> Any:
        return over if statistic in ("layer", "channels") else statistic

    return dataclasses.replace(row, mean=moved(row.mean), scale=moved(row.scale))


def _nearest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}" if close else f"choose from {', '.join(words)}"


_NAMES = frozenset(row.name for row in TABLE)
_HINTS = get_type_hints(Normalizer)
_DOMAINS: dict[str, Domain] = {
    "affine": Flag(),
    "derivative": Among(("surrogate", "true")),
    "eps": Number(low=0),
    "momentum": Number(low=0, high=1, optional=True),
    "over": Among(("layer", "channels")),
    "p": Power(),
    "penalty": Among(("A", "B", "C", "D")),
    "penalty_unbiased": Flag(),
}
_DOMAINS |= {name: Among(get_args(_HINTS[name])) for name in ("evaluation", "running_variance", "penalty_over")}


def _domain(row: Normalizer, option: str) -> Domain:
    if option == "moment":  # running statistics are of what does not grow with the batch, which a norm does
        return Among(("norm", "rms") if row.moment == "norm" else ("std", "rms"))
    own = {setting.name: setting.domain for setting in row.settings}
    return own[option] if option in own else _DOMAINS[option]
