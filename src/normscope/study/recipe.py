"""What a comparison is asked to do: the options a person sets, and the resolved recipe a run folder is named after.

`Options` are what the command line and Python callers fill in; every field left unset takes its value from the scale.
`Options.resolve()` gives the `Recipe`: frozen, complete, and the whole of what the numbers depend on. Nothing here
imports torch, so that bad input is refused in the first tenth of a second.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from normscope.study.experiment import Data, Norm, Scalar, ScaleName
from normscope.study.probing import (
    DEFAULT_PROBES,
    MODES,
    ProbeName,
    Spectrum,
    as_modes,
    default_spectrum_steps,
    in_order,
)
from normscope.study.scales import SCALES, SHAPES

ModelName: TypeAlias = Literal["wrn", "mlp"]

_WORDS: dict[str, Scalar] = {"true": True, "false": False, "none": None}
_NORM = re.compile(r"[A-Za-z0-9_]+(:[A-Za-z0-9_]+=[A-Za-z0-9_.+-]+)*")


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The resolved recipe of a comparison. Two equal recipes name the same run folder and give the same numbers.

    `depth` is the model's depth where it is measured at initialization, `train_depth` where it is trained. Seeds are
    0, 1, ..., seeds - 1. `init_batches` is how many batches of `batch_size` a measurement at initialization averages.
    `probes` is set where they are not the default ones, `curvature_examples` where one of them needs the Hessian,
    `spectrum` where one is the spectrum; unset fields are no part of the JSON, so that they leave older ids alone.
    """

    kind: Literal["compare"] = "compare"
    schema: Literal[1] = 1
    scale: ScaleName
    data: str
    max_train: int | None
    max_eval: int | None
    model: ModelName
    depth: int
    train_depth: int
    width: int
    skips: bool
    norms: tuple[Norm, ...]
    lrs: tuple[float, ...]
    seeds: int
    steps: int
    batch_size: int
    init_batches: int
    noise: float
    momentum: float
    weight_decay: float
    penalty_weight: float
    probes: tuple[ProbeName, ...] | UnsetType = UNSET
    curvature_examples: int | UnsetType = UNSET
    spectrum: Spectrum | UnsetType = UNSET

    @property
    def dataset(self) -> Data:
        """The data set and how much of it."""
        return Data(name=self.data, max_train=self.max_train, max_eval=self.max_eval)

    @property
    def measured(self) -> tuple[ProbeName, ...]:
        """The probes, in the order of `PROBES`."""
        return DEFAULT_PROBES if self.probes is UNSET else self.probes

    @property
    def measures_initialization(self) -> bool:
        """Whether a probe reads the untrained network by depth."""
        return bool({*DEFAULT_PROBES} & {*self.measured})

    @property
    def measures_curvature(self) -> bool:
        """Whether a probe takes products with the Hessian."""
        return bool({"spectrum", "sharpness"} & {*self.measured})

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON (sorted keys, no spaces), in hex."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    @property
    def folder_name(self) -> str:
        """Name of the run folder: the kind and the first twelve digits of the id."""
        return f"{self.kind}-{self.id[:12]}"

    def to_json(self) -> bytes:
        """The recipe as `recipe.json` holds it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is compared, on what data, with what training. An option left out takes the scale's value."""

    data: str = "digits"
    """Data set: digits (built in), a local directory, or a Hugging Face hub id."""

    model: ModelName = "wrn"
    """Network: wrn (WideResNet) or mlp."""

    depth: int | None = None
    """Depth of the network measured at initialization: wrn 26 (6n + 2), mlp 24; smoke 8."""

    width: int | None = None
    """Widening factor of wrn (1; paper 2), or units per layer of mlp (128; smoke 32)."""

    skips: bool = False
    """Residual connections (wrn only)."""

    train_depth: int | None = None
    """Depth of the network that is trained: --depth where that is given, else wrn 14 (paper 26), mlp 24; smoke 8."""

    norms: tuple[str, ...] | None = None
    """Normalizers, each NAME or NAME:OPTION=VALUE:... (for example batchnorm,regnorm:penalty=B); by default the first
    paper's ten rows, at smoke three of them."""

    lrs: tuple[float, ...] | None = None
    """Learning rates tried for each normalizer: 0.003,0.03,0.3; smoke 0.1; paper 0.01,0.03,0.1,0.3,1."""

    seeds: int | None = None
    """Seeds per normalizer and learning rate: 3; smoke 2; paper 5."""

    steps: int | None = None
    """Training steps: 100; smoke 3; paper 1000."""

    batch_size: int | None = None
    """Examples per batch: 64; smoke 16; paper 256."""

    noise: float = 0.1
    """Standard deviation of the noise that makes two similar batches, in units of the input's."""

    momentum: float = 0.9
    """Nesterov momentum of SGD."""

    weight_decay: float = 5e-4
    """L2 decay of weights (not of gains, shifts and biases)."""

    penalty_weight: float = 0.1
    """Weight of the penalty of the rows that have one (regnorm, preregnorm)."""

    max_train: int | None = None
    """At most this many training examples: all; smoke 256."""

    max_eval: int | None = None
    """At most this many validation, and as many test examples: 2000; smoke 64; paper all."""

    probes: tuple[str, ...] | None = None
    """What is measured: information_propagation,gradient_correlation,gradient_norm unless given; and, at a cost that is
    told before anything starts, spectrum (density of the Hessian's eigenvalues) and sharpness (the largest ones)."""

    curvature_examples: int | None = None
    """Training examples the Hessian is taken on, as one batch: 512; smoke 16."""

    lanczos_steps: int | None = None
    """Products of each random vector of a spectrum: 80; smoke 8."""

    lanczos_starts: int | None = None
    """Random vectors of each spectrum: 2; smoke 1; paper 10."""

    spectrum_steps: tuple[int, ...] | None = None
    """Steps of training at which spectra are measured, 0 being initialization: 0 and 50, or the last."""

    spectrum_modes: tuple[str, ...] | None = None
    """Normalization by batch statistics (train) and by running ones (eval), for rows that have them: train,eval."""

    spectrum_groups: tuple[str, ...] | None = None
    """Groups of parameters that have a spectrum of their own, as patterns on names (blocks.0.*,readout.*)."""

    scale: ScaleName = "laptop"
    """Size of everything left out: smoke (seconds), laptop (minutes on two cores), paper (the paper's, for a GPU)."""

    def resolve(self) -> Recipe:
        """Fill in the scale's values and check every field; a bad one raises ValueError."""
        _one_of("scale", self.scale, SCALES)
        _one_of("model", self.model, SHAPES)
        defaults = SCALES[self.scale]
        depth, train_depth, width = SHAPES[self.model][self.scale]
        given = {name: value for name, value in vars(self).items() if value is not None}
        shape = {"depth": depth, "train_depth": given.get("depth", train_depth), "width": width}
        fields = {**defaults, **shape, **given}
        fields["norms"] = [parse_norm(text) for text in fields["norms"]]
        recipe = from_plain(_with_probes(fields, given))
        check(recipe)
        return recipe


# Option -> the probes it belongs to.
_BELONGS: dict[str, tuple[ProbeName, ...]] = {
    "curvature_examples": ("spectrum", "sharpness"),
    "lanczos_steps": ("spectrum",),
    "lanczos_starts": ("spectrum",),
    "spectrum_steps": ("spectrum",),
    "spectrum_modes": ("spectrum",),
    "spectrum_groups": ("spectrum",),
}


def _with_probes(fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The recipe's fields about probes in place of the options about them."""
    probes = in_order(given.get("probes", DEFAULT_PROBES))
    for option, owners in _BELONGS.items():
        idle = option in given and not set(owners) & set(probes)
        _require(not idle, f"{option} is an option of {' and '.join(owners)}; add it to probes", ", ".join(probes))
    chosen: dict[str, Any] = {} if probes == DEFAULT_PROBES else {"probes": probes}
    if set(probes) & {"spectrum", "sharpness"}:
        chosen["curvature_examples"] = fields["curvature_examples"]
    if "spectrum" in probes:
        chosen["spectrum"] = {
            "lanczos_steps": fields["lanczos_steps"],
            "lanczos_starts": fields["lanczos_starts"],
            "steps": sorted(fields.get("spectrum_steps", default_spectrum_steps(fields["steps"]))),
            "modes": as_modes(fields.get("spectrum_modes", MODES)),
            "groups": fields.get("spectrum_groups", ()),
        }
    return {name: value for name, value in fields.items() if name not in {*_BELONGS, "probes"}} | chosen


def parse_norm(text: str) -> dict[str, Any]:
    """Read `NAME:OPTION=VALUE:...` as the plain form of a `Norm`.

    A value is true, false, none, a number, or else a string.
    """
    if not _NORM.fullmatch(text):
        raise ValueError(f"a normalizer is written NAME or NAME:OPTION=VALUE, such as regnorm:penalty=B, got {text!r}.")
    name, *pairs = text.split(":")
    options = [pair.split("=", 1) for pair in pairs]
    _distinct(f"the options of {name}", [key for key, _ in options])
    return {"name": name, "options": {key: _value(spelled) for key, spelled in options}}


def from_plain(fields: Any) -> Recipe:
    """Build a recipe from its plain dict form; a missing, unknown or wrongly typed field raises ValueError."""
    try:
        return msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        raise ValueError(f"this is not a recipe of a comparison: {error}.") from None


def check(recipe: Recipe) -> None:
    """Refuse what no comparison can run, naming the field; what depends on torch or the data is checked later."""
    positive = ("depth", "train_depth", "width", "seeds", "steps", "batch_size")
    for name in positive:
        _require(getattr(recipe, name) >= 1, f"{name} must be at least 1", getattr(recipe, name))
    for name in ("max_train", "max_eval"):
        limit = getattr(recipe, name)
        _require(limit is None or limit >= 1, f"{name} must be at least 1", limit)
    _require(recipe.init_batches >= 2, "init_batches must be at least 2, gradients are correlated", recipe.init_batches)
    _require(0 < recipe.noise < math.inf, "noise must be positive and finite", recipe.noise)
    _require(0 <= recipe.momentum < 1, "momentum must be at least 0 and below 1", recipe.momentum)
    for name in ("weight_decay", "penalty_weight"):
        _require(0 <= getattr(recipe, name) < math.inf, f"{name} must not be negative", getattr(recipe, name))
    _require(len(recipe.lrs) > 0, "lrs must name at least one learning rate", recipe.lrs)
    for lr in recipe.lrs:
        _require(0 < lr < math.inf, "a learning rate must be positive and finite", lr)
    _require(len(recipe.norms) > 0, "norms must name at least one normalizer", ())
    _distinct("lrs", [f"{lr:g}" for lr in recipe.lrs])
    _distinct("norms", [norm.label for norm in recipe.norms])
    _check_curvature(recipe)
    _require(recipe.model == "wrn" or not recipe.skips, "skips is an option of the model wrn", recipe.model)


def _check_curvature(recipe: Recipe) -> None:
    asked = {
        "spectrum": "spectrum" in recipe.measured,
        "curvature_examples": bool({"spectrum", "sharpness"} & set(recipe.measured)),
    }
    for name, wanted in asked.items():
        given = getattr(recipe, name) is not UNSET
        _require(
            given == wanted,
            f"{name} must be {'given' if wanted else 'left out'} with these probes",
            ", ".join(recipe.measured),
        )
    if recipe.curvature_examples is not UNSET:
        _require(recipe.curvature_examples >= 1, "curvature_examples must be at least 1", recipe.curvature_examples)
    if recipe.spectrum is UNSET:
        return
    for name in ("lanczos_steps", "lanczos_starts"):
        _require(getattr(recipe.spectrum, name) >= 1, f"{name} must be at least 1", getattr(recipe.spectrum, name))
    steps = recipe.spectrum.steps
    _require(len(steps) > 0, "spectrum_steps must name at least one step", steps)
    for step in steps:
        _require(
            0 <= step <= recipe.steps,
            f"spectrum_steps must lie between 0 and the {recipe.steps} steps of training",
            step,
        )
    _distinct("spectrum_steps", [str(step) for step in steps])
    as_modes(recipe.spectrum.modes)
    _distinct("spectrum_groups", list(recipe.spectrum.groups))


def _require(holds: bool, rule: str, arrived: object) -> None:
    if not holds:
        raise ValueError(f"{rule}, got {arrived}.")


def _one_of(name: str, value: str, choices: dict[str, Any]) -> None:
    _require(value in choices, f"{name} must be one of {', '.join(choices)}", repr(value))


def _distinct(name: str, labels: list[str]) -> None:
    twice = sorted({label for label in labels if labels.count(label) > 1})
    _require(not twice, f"{name} must not name one twice", ", ".join(twice))


def _value(spelled: str) -> Scalar:
    if spelled in _WORDS:
        return _WORDS[spelled]
    try:
        return msgspec.json.decode(spelled, type=int | float)
    except msgspec.DecodeError:
        return spelled
