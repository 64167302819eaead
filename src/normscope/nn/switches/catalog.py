"""The table: every switch by name, and how one is made with its options."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

from normscope.nn.switches.activation import signed_relu, tlu
from normscope.nn.switches.affine import normalized_affine
from normscope.nn.switches.gradient import gradient_scale
from normscope.nn.switches.logits import logits_norm
from normscope.nn.switches.noise import batch_noise
from normscope.nn.switches.shift import noisy_batch_norm
from normscope.nn.switches.switch import Option, Switch
from normscope.nn.switches.variance import variance_penalty

_TABLE: dict[str, Callable[..., Switch]] = {
    made_by.__name__: made_by
    for made_by in (
        gradient_scale,
        batch_noise,
        signed_relu,
        normalized_affine,
        tlu,
        logits_norm,
        variance_penalty,
        noisy_batch_norm,
    )
}


def names() -> tuple[str, ...]:
    """Return the names of all switches, those of "Is Batch Norm unique?" in the order of its appendix A first."""
    return tuple(_TABLE)


def switch(name: str, /, **options: Option) -> Switch:
    """Return one switch, with options.

    Args:
        name: one of `names()`.
        options: the keyword arguments of the function of that name in this package.

    Raises:
        ValueError: unknown name or option (the close ones are named), an option without a default is missing, or a
            value is outside its range.
    """
    if name not in _TABLE:
        raise ValueError(f"Unknown switch {name!r}; {_nearest(name, list(_TABLE))}.")
    parameters = inspect.signature(_TABLE[name]).parameters
    for option in options:
        if option not in parameters:
            advice = _nearest(option, list(parameters)) if parameters else "it has none"
            raise ValueError(f"Unknown option {option!r} of {name}; {advice}.")
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise ValueError(f"{name} needs its option {option}; write switch({name!r}, {option}=...).")
    return _TABLE[name](**options)


def _nearest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}" if close else f"choose from {', '.join(words)}"
