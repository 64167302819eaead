"""The interface of every measurement."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import final, get_args

import torch

from normscope.isolation import Mode, draw_seed, isolated
from normscope.probes.noise import complaint_about_inputs
from normscope.probes.reading import Reading
from normscope.probes.weights import all_parameters, layer_weights
from normscope.subject import Subject


class Probe(abc.ABC):
    """Measures any `nn.Module` and leaves it untouched (not a linear probe: nothing is trained).

    A concrete probe is a frozen, keyword-only dataclass, so it prints, compares and goes into a record; calling it does
    the work. Parameters, buffers, gradients, the mode of every module, its hooks and attributes, the batch and the
    global random state are the same bit for bit afterwards, also when the model raises. It works under `torch.no_grad`
    and `torch.inference_mode` and on frozen parameters alike.

    The model is measured in `mode` "train" (batch statistics where it has them) or "eval" (running statistics), with
    torch's dropout modules off. Randomness comes from `generator` alone: the same state gives the same reading.
    """

    mode: Mode

    @property
    @abc.abstractmethod
    def requires(self) -> frozenset[str]:
        """What the subject must offer, as names in `REQUIREMENTS`; checked before anything runs."""

    @abc.abstractmethod
    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """The measurement itself. Call the probe instead: that isolates the model first."""

    @final
    def complaints(self, subject: Subject) -> tuple[str, ...]:
        """Why this probe does not fit `subject`, one line per unmet requirement; empty if it fits."""
        found = (REQUIREMENTS[name](subject) for name in sorted(self.requires))
        return tuple(line for line in found if line is not None)

    @final
    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """Measure `subject`.

        Raises:
            TypeError: `generator` is not a `torch.Generator`.
            ValueError: the subject lacks what the probe requires.
        """
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"A probe draws from a torch.Generator, but a {type(generator).__name__} arrived. "
                "Pass torch.Generator().manual_seed(0)."
            )
        with isolated(subject, mode=self.mode, seed=draw_seed(generator)):
            complaints = self.complaints(subject)
            if complaints:
                raise ValueError(f"{type(self).__name__} does not fit this subject. {' '.join(complaints)}")
            return self.measure(subject, generator=generator)


def check_mode(mode: Mode) -> None:
    """Refuse a mode that is neither "train" nor "eval".

    Raises:
        ValueError: on any other.
    """
    check_choice("mode", mode, get_args(Mode))


def check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a `value` that is none of `choices`.

    Raises:
        ValueError: naming the field and the choices.
    """
    if value not in choices:
        raise ValueError(
            f"`{field}` is one of {', '.join(map(repr, choices))}, but {value!r} arrived. Pick one of these."
        )


def _floating_inputs(subject: Subject) -> str | None:
    return complaint_about_inputs(subject.batch[0])


def _two_batches(subject: Subject) -> str | None:
    if next(iter(subject.more), None) is not None:
        return None
    return "Independent minibatches come in pairs, but one batch arrived. Pass further batches in more=[...]."


def _layer_weights(subject: Subject) -> str | None:
    if layer_weights(subject.model):
        return None
    return (
        f"A layer is read by its weight matrices or kernels, but {type(subject.model).__name__} has none. "
        "Measure a model with affine layers."
    )


def _parameters(subject: Subject) -> str | None:
    if all_parameters(subject.model):
        return None
    return (
        f"Gradients are taken with respect to parameters, but {type(subject.model).__name__} has none. "
        "Measure a model that can be trained."
    )


REQUIREMENTS: Mapping[str, Callable[[Subject], str | None]] = {
    "floating_inputs": _floating_inputs,
    "layer_weights": _layer_weights,
    "parameters": _parameters,
    "two_batches": _two_batches,
}
