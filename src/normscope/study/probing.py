"""What a comparison measures beside training itself: the names of its probes, and what spectra are taken of."""

from __future__ import annotations

import difflib
from typing import Literal, TypeAlias, get_args

import msgspec

ProbeName: TypeAlias = Literal[
    "information_propagation", "gradient_correlation", "gradient_norm", "spectrum", "sharpness"
]

ModeName: TypeAlias = Literal["train", "eval"]

MODES: tuple[ModeName, ...] = get_args(ModeName)
PROBES: tuple[ProbeName, ...] = get_args(ProbeName)
DEFAULT_PROBES = PROBES[:3]
PAPERS_STEP = 50  # Rao and Sohl-Dickstein 2020, Figure 4


class Spectrum(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the density of the Hessian's eigenvalues is measured.

    `lanczos_steps` products from each of `lanczos_starts` random vectors; at each of `steps` of training, 0 being
    initialization; of all parameters in each of `modes`, and in train mode of each group of parameters whose names
    match one of the patterns `groups`.
    """

    lanczos_steps: int
    lanczos_starts: int
    steps: tuple[int, ...]
    modes: tuple[ModeName, ...]
    groups: tuple[str, ...]


def in_order(names: tuple[str, ...]) -> tuple[ProbeName, ...]:
    """The probes in the order of `PROBES`.

    Raises:
        ValueError: a name is unknown (near ones are named), stands twice, or there is none.
    """
    for name in names:
        if name not in PROBES:
            near = difflib.get_close_matches(name, PROBES, n=3, cutoff=0.5) or PROBES
            raise ValueError(f"there is no probe {name!r}; did you mean {' or '.join(near)}?")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"probes must name at least one, and none twice, got {', '.join(names) or 'none'}.")
    return tuple(name for name in PROBES if name in names)


def as_modes(names: tuple[str, ...]) -> tuple[ModeName, ...]:
    """The modes in the order of `MODES`; ValueError where there is none, one stands twice or does not exist."""
    for name in names:
        if name not in MODES:
            raise ValueError(f"spectrum_modes must be among {', '.join(MODES)}, got {name!r}.")
    if not names:
        raise ValueError("spectrum_modes must name train, eval or both, got ().")
    if len(set(names)) < len(names):
        raise ValueError(f"spectrum_modes must not name one twice, got {', '.join(names)}.")
    return tuple(mode for mode in MODES if mode in names)


def default_spectrum_steps(steps: int) -> tuple[int, ...]:
    """Initialization, and step 50 or the last step where training is shorter."""
    return (0, min(PAPERS_STEP, steps))
