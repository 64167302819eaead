"""An experiment, fully specified: which network on which data, changed how, trained how, and what is measured when.

Plain data that a file can hold; nothing here imports torch. `study.execution` runs one experiment, a `Study` is a
tuple of them, and the recipe of a comparison is spelled out as experiments too.
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

import msgspec

Scalar: TypeAlias = bool | int | float | str | None
ScaleName: TypeAlias = Literal["smoke", "laptop", "paper"]
Augment: TypeAlias = Literal["none", "crop_flip", "resized_crop_flip"]


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all of these are: immutable, complete, and as JSON no longer than what differs from the defaults."""


class Norm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One normalizer of a comparison: a row's name and the options it is made with."""

    name: str
    options: dict[str, Scalar] = {}

    @property
    def label(self) -> str:
        """What the records call it: `regnorm`, or `regnorm:penalty=B` with options."""
        return ":".join([self.name, *(f"{key}={_spell(value)}" for key, value in sorted(self.options.items()))])


class Data(_Spec, frozen=True, kw_only=True):
    """A data set and how much of it.

    Attributes:
        name: "digits", "declaration" (a text), a local directory, or a hub id.
        max_train: at most so many training examples.
        max_eval: at most so many validation, and as many test examples.
        augment: of training batches: "crop_flip" is the papers' random crop and horizontal flip of small images,
            "resized_crop_flip" that of ImageNet, whose crops are of random area and shape; see `normscope.data`.
        image_size: images are resized to so many pixels a side.
        sequence_length: tokens of an example; it makes the data a text for language models.
        vocabulary: subwords of such a text; None for its characters.
        buffer: training examples are streamed, and mixed in a buffer of so many; None for all of them in memory. Then
            `max_eval` is needed, and `max_train` bounds the training examples that are held for measurements (1,024).
    """

    name: str
    max_train: int | None = None
    max_eval: int | None = None
    augment: Augment = "none"
    image_size: int | None = None
    sequence_length: int | None = None
    vocabulary: int | None = None
    buffer: int | None = None


class Model(_Spec, frozen=True, kw_only=True):
    """A family of networks and the keyword arguments of its constructor, without those that data and row give."""

    family: str
    options: dict[str, Scalar] = {}


class Switch(_Spec, frozen=True, kw_only=True):
    """A change to the network that goes with any normalizer; see `normscope.nn.switches`."""

    name: str
    options: dict[str, Scalar] = {}


class Optimizer(_Spec, frozen=True, kw_only=True):
    """An optimizer of `normscope.train` and its options, weight decay among them."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float
    options: dict[str, Scalar] = {}


class Schedule(_Spec, frozen=True, kw_only=True):
    """How the learning rate goes with the step; see `normscope.train`."""

    name: Literal["constant", "piecewise", "cosine", "rsqrt"] = "constant"
    options: dict[str, Scalar | tuple[Scalar, ...]] = {}


class Training(_Spec, frozen=True, kw_only=True):
    """How the network is trained.

    Attributes:
        objective: "loss" with `penalty_weight` times RegNorm's penalty, or the "penalty" alone.
        precision: as Lightning Fabric names it.
        checkpoint_every: steps between checkpoints, from which an interrupted training goes on; None for none.
        diverged_loss: the loss above which it has diverged.
    """

    steps: int
    batch_size: int
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    penalty_weight: float = 0.0
    objective: Literal["loss", "penalty"] = "loss"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    checkpoint_every: int | None = None
    diverged_loss: float = 1e3


class Measurement(_Spec, frozen=True, kw_only=True):
    """What is measured, by its name in `study.measuring`, and at which steps: 0 is initialization."""

    probe: str
    at: tuple[int, ...]
    options: dict[str, Scalar] = {}


class Experiment(_Spec, frozen=True, kw_only=True):
    """One network, trained or not, and what is measured of it.

    Attributes:
        id: its own within a study; the name of its folder.
        condition: what sets it apart beside normalizer, learning rate and seed, as the records say it.
        batch_size: of measurements and of evaluation.
        dtype: of weights and data; weights are drawn in it.
        replicas: so many untrained networks, with seeds `seed`, `seed` + 1, ..., in one trial; 1 where it is trained.
    """

    id: str
    data: Data
    model: Model
    norm: Norm
    seed: int
    condition: str = ""
    switches: tuple[Switch, ...] = ()
    training: Training | None = None
    batch_size: int
    measurements: tuple[Measurement, ...] = ()
    dtype: Literal["float32", "float64"] = "float32"
    replicas: int = 1

    @property
    def seeds(self) -> range:
        """The seeds of all its networks."""
        return range(self.seed, self.seed + self.replicas)


class Final(_Spec, frozen=True, kw_only=True):
    """The second stage of a study: each group's best rate again, with these seeds, measured like this.

    A group are the experiments that differ in rate and seed alone; its best rate is the one with the highest mean
    final validation accuracy, a diverged one counting as 0.
    """

    seeds: tuple[int, ...]
    measurements: tuple[Measurement, ...] = ()


class Study(_Spec, frozen=True, kw_only=True, omit_defaults=False):
    """The resolved recipe of one item of a paper at one scale."""

    kind: Literal["study"] = "study"
    schema: Literal[1] = 1
    paper: str
    item: str
    scale: ScaleName
    experiments: tuple[Experiment, ...]
    final: Final | None = None

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON (sorted keys, no spaces), in hex."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    @property
    def folder_name(self) -> str:
        """Name of the run folder: the paper, the item and the first twelve digits of the id."""
        return f"{self.paper}-{self.item}-{self.id[:12]}"

    @property
    def measures_curvature(self) -> bool:
        """Whether something takes products with the Hessian."""
        asked = [m for e in self.experiments for m in e.measurements]
        asked += [] if self.final is None else self.final.measurements
        return any(measurement.probe in ("spectrum", "sharpness") for measurement in asked)

    def to_json(self) -> bytes:
        """The study as `recipe.json` holds it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def _spell(value: Scalar) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
