"""What a switch is: data that says at which places of a network it acts, and with what."""

from __future__ import annotations

import abc
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from torch import Tensor, nn

Option: TypeAlias = bool | int | float | str | None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where in the network a module stands.

    Attributes:
        num_features: channels of the values there.
        channel_dim: their axis; may count from the end.
        index: how many places of its kind were made before; two places of one network differ in it.
        seed: of the network's switches.
        penalized: whether the normalizer already adds RegNorm's penalty to the loss.
    """

    num_features: int
    channel_dim: int
    index: int
    seed: int
    penalized: bool = False

    def key(self, *index: object) -> int:
        """A 63-bit seed from the SHA-256 of the network's seed and `index`."""
        digest = hashlib.sha256(":".join(map(str, (self.seed, *index))).encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


@final
@dataclass(frozen=True, kw_only=True)
class Switch:
    """One change to a network, made by `switch(name, ...)`; each place it acts at is a function, the others None.

    Attributes:
        name: its name in the table.
        formula: what it computes, in one line of text.
        options: all of them, with the values they have here.
        couples_batch: whether it makes an example's output depend on the others of its batch in train mode.
        before_gain: whether it acts between normalization and the gain and shift, so that at a site it comes first.
        at_site: makes the module called as ``module(y, x, affine)`` after each normalizer site, where x is the site's
            input, y its output and `affine` the site's gain and shift, broadcastable to y and None where there is none
            or where they are not known; what the module returns takes the place of y.
        at_activation: makes the module that takes the place of each activation.
        at_affine: changes a copy of each affine layer, in place.
        at_logits: wraps the finished network, given the number of classes.
    """

    name: str
    formula: str
    options: Mapping[str, Option] = field(hash=False)
    couples_batch: bool = False
    before_gain: bool = False
    at_site: Callable[[Place], nn.Module] | None = field(default=None, repr=False, compare=False)
    at_activation: Callable[[Place], nn.Module] | None = field(default=None, repr=False, compare=False)
    at_affine: Callable[[nn.Module], None] | None = field(default=None, repr=False, compare=False)
    at_logits: Callable[[nn.Module, int], nn.Module] | None = field(default=None, repr=False, compare=False)


class Stepped(nn.Module, abc.ABC):
    """A module that changes with the step of training, and holds in buffers what it does at the present one."""

    @abc.abstractmethod
    def at_step(self, step: int) -> None:
        """Set the buffers for this step, counted from 1; 0 is initialization."""


def per_channel(value: Tensor, like: Tensor, channel_dim: int) -> Tensor:
    """A (C,) tensor as one that broadcasts along the channel axis of `like`."""
    axis = channel_dim % like.ndim
    return value.view(*(-1 if d == axis else 1 for d in range(like.ndim)))


def check(name: str, option: str, value: Any, right: bool, allowed: str) -> None:
    """Refuse a value outside the option's range.

    Raises:
        ValueError: naming the range.
    """
    if not right:
        raise ValueError(f"Option {option} of {name} must be {allowed}, got {value!r}.")


def is_count(value: Any) -> bool:
    """Whether the value is an integer of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_finite(value: Any) -> bool:
    """Whether the value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
