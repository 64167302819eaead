"""The table: every normalizer as one row, and how a row is found by name."""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Any, get_args, get_type_hints

from normscope.nn.normalizer import Normalizer

_UNIQUE = '"Is Batch Norm unique?", Rao and Sohl-Dickstein 2020, arXiv:2010.10687'

_TABLE = (
    Normalizer(
        name="none",
        formula="y = z",
        reference=f"{_UNIQUE}, table 1",
        elementwise_affine=False,
    ),
    Normalizer(
        name="batchnorm",
        formula="y = (z - mean_batch z) / std_batch z",
        reference="Ioffe and Szegedy 2015, arXiv:1502.03167",
        mean="batch",
        scale="batch",
        evaluation="running",
    ),
    Normalizer(
        name="batchnorm_train",
        formula="y = (z - mean_batch z) / std_batch z, in eval mode too",
        reference=f"{_UNIQUE}, table 3 (Batch-Train)",
        mean="batch",
        scale="batch",
    ),
    Normalizer(
        name="layernorm",
        formula="y = (z - mean_layer z) / std_layer z",
        reference="Ba, Kiros and Hinton 2016, arXiv:1607.06450",
        mean="layer",
        scale="layer",
    ),
    Normalizer(
        name="weightnorm",
        formula="z = (g v / |v|) x + b, y = z",
        reference="Salimans and Kingma 2016, arXiv:1602.07868",
        layer="weight_norm",
        elementwise_affine=False,
    ),
    Normalizer(
        name="bmlv",
        formula="d = z - mean_batch z, y = d / std_layer d",
        reference=f"{_UNIQUE}, table 1 (batch mean, layer variance)",
        mean="batch",
        scale="layer",
        evaluation="running",
    ),
    Normalizer(
        name="lmbv",
        formula="d = z - mean_layer z, y = d / std_batch d",
        reference=f"{_UNIQUE}, table 1 (layer mean, batch variance)",
        mean="layer",
        scale="batch",
        evaluation="running",
    ),
    Normalizer(
        name="prelayernorm",
        formula="z = W (x - mean_layer x) + b, y = z / std_layer z",
        reference=f"{_UNIQUE}, section 3.1",
        layer="centered",
        scale="layer",
    ),
    Normalizer(
        name="regnorm",
        formula="y = z / rms_layer z; loss + penalty_weight sum_l mean_i (mean_batch y_i)^2",
        reference=f"{_UNIQUE}, section 3.2, equation 3 reconstructed",
        scale="layer",
        moment="rms",
        penalty="A",
    ),
    Normalizer(
        name="preregnorm",
        formula="z = W (x - mean_layer x) + b, y = z / std_layer z; loss + penalty as regnorm",
        reference=f"{_UNIQUE}, section 3.2",
        layer="centered",
        scale="layer",
        penalty="A",
    ),
    Normalizer(
        name="bnl2",
        formula="y = z / |z|_batch",
        reference='"Training without depth limits", Meterez et al. 2024, arXiv:2310.02012, equation 4',
        scale="batch",
        moment="norm",
        eps=0.0,
        elementwise_affine=False,
    ),
    Normalizer(
        name="lpnorm",
        formula="d = z - mean_batch z, y = d / (mean_batch |d|^p)^(1/p), p = 1, 2 or inf",
        reference="Santurkar et al. 2018, arXiv:1805.11604, section 3.3",
        mean="batch",
        scale="batch",
        p=1,
    ),
)


def normalizers() -> tuple[Normalizer, ...]:
    """Return the whole table, in order."""
    return _TABLE


def normalizer(name: str, **options: Any) -> Normalizer:
    """Return one row, with options.

    Args:
        name: the row's name, one of those of `normalizers()`.
        options: those of ``normalizer(name).options``: affine, eps, moment, momentum, evaluation, running_variance,
            over, p, penalty, penalty_over, penalty_unbiased, as far as they mean something to the row.

    Raises:
        ValueError: unknown name or option (the close ones are named), or a value outside the option's range.
    """
    row = next((row for row in _TABLE if row.name == name), None)
    if row is None:
        raise ValueError(f"Unknown normalizer {name!r}; {_nearest(name, [row.name for row in _TABLE])}.")
    for option, value in options.items():
        if option not in row.options:
            raise ValueError(f"Unknown option {option!r} of {name}; {_nearest(option, list(row.options))}.")
        _check_value(row, option, value)
    fields = {"elementwise_affine" if option == "affine" else option: value for option, value in options.items()}
    row = _taken_over(row, fields.pop("over", row.over))
    row = dataclasses.replace(row, **fields)
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


_HINTS = get_type_hints(Normalizer)
_CHOICES = {
    "over": ("layer", "channels"),
    "penalty": ("A", "B", "C", "D"),
} | {name: get_args(_HINTS[name]) for name in ("evaluation", "running_variance", "penalty_over")}


def _check_value(row: Normalizer, option: str, value: Any) -> None:
    if option == "moment":  # running statistics are of what does not grow with the batch, which a norm does
        choices = ("norm", "rms") if row.moment == "norm" else ("std", "rms")
        allowed, right = f"one of {', '.join(choices)}", value in choices
    elif option in _CHOICES:
        allowed, right = f"one of {', '.join(_CHOICES[option])}", value in _CHOICES[option]
    elif option == "p":
        allowed, right = "1, 2 or 'inf'", not isinstance(value, bool) and value in (1, 2, "inf")
    elif option in ("affine", "penalty_unbiased"):
        allowed, right = "True or False", isinstance(value, bool)
    elif option == "momentum":
        allowed, right = "between 0 and 1, or None", value is None or (_is_number(value) and 0 <= value <= 1)
    else:
        allowed, right = "a finite number of at least 0", _is_number(value) and 0 <= value < math.inf
    if not right:
        raise ValueError(f"Option {option} of {row.name} must be {allowed}, got {value!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
