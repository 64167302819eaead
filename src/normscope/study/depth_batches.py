"""The batch that measurements of deep networks are taken on: its size, how many of its samples are copies, or an input
near the identity matrix.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from normscope import probes
from normscope.study.building import cast, cross_entropy
from normscope.study.depth_theory import describes_gap, growth, has_orthogonal_weights, is_linear
from normscope.study.experiment import Experiment, Measurement
from normscope.study.measuring import Scene


def subject(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    samples: int | None,
    repeated: int,
    near_identity: float | None = None,
    batches: int = 1,
    raw: bool = False,
) -> probes.Subject:
    r"""The model with its loss on batches drawn apart from those of training, the same at every step.

    Args:
        scene: of the experiment.
        model: the network as it stands.
        step: at which the measurement is taken.
        samples: n; the experiment's batch_size where it is None. Smaller batches are the beginnings of larger ones.
        repeated: so many of the n samples are copies: the first n - `repeated`, with their classes, over and over.
            Where samples are no copies and in general position, the rank of the batch is n - `repeated`.
        near_identity: f. In place of what the first affine layer makes of the data stands
            :math:`W_0 X_0, X_0 = (1 - f) I + f u v^\top`, with as many samples as units, u and v uniform on [0, 1] and
            W_0 orthogonal by the Haar measure; the samples keep the classes of data.
        batches: how many.
        raw: undo the centering of the data: the least value of a channel counts as 0, so that values are those of
            pixels up to a factor for each channel.

    Source: Meterez et al. 2024, arXiv:2310.02012, figure 1 (the input near the identity) and appendix G (copies).
    """
    size = samples if near_identity is None else _first_affine(model).out_features
    lowest = cast(_lowest(scene.dataset.train.inputs), scene.experiment) if raw else None
    drawn = []
    for inputs, targets in scene.batches(batches, "probe", size=size):
        taken = torch.arange(len(targets), device=targets.device) % (len(targets) - repeated)
        drawn.append(((inputs if lowest is None else inputs - lowest)[taken], targets[taken]))
    first, *more = drawn
    if near_identity is None:
        return probes.Subject(model, cross_entropy, first, more=more)
    mixed = _rotated_near_identity(first[0], len(first[1]), near_identity, scene.generator(step))
    return probes.Subject(model, cross_entropy, first, forward=_instead_of_first(mixed))


def check(experiment: Experiment, measurement: Measurement, *, available: int) -> None:
    """Refuse a batch that cannot be drawn, or has too few samples for the theory asked for.

    Raises:
        ValueError: fewer than 2 samples or more than are `available`, none that is no copy, a share that is none or
            that samples are asked for beside; a gap after aligned weights, or theory of orthogonal weights with an
            activation, with fewer different samples than units; theory of orthogonal weights without one on a batch
            whose rank is below 3; theory of Gaussian weights with fewer than 3 samples or with copies; theory of the
            isometry gap of a network that it is not about.
    """
    if measurement.probe not in _ON_SUCH_BATCHES:
        return
    options, width = measurement.options, experiment.model.options.get("width")
    share, samples, repeated = options.get("near_identity"), options.get("samples"), options.get("repeated", 0)
    if share is not None and (not isinstance(share, int | float) or not 0 <= share < 1):
        raise ValueError(f"near_identity is a share of at least 0 and below 1, got {share}.")
    if share is not None and (samples is not None or repeated):
        raise ValueError(
            f"near_identity makes the whole batch, got samples={samples} and repeated={repeated} beside it; leave out "
            "the one or the other."
        )
    size = width if share is not None else experiment.batch_size if samples is None else samples
    if not isinstance(size, int) or not 2 <= size <= available:
        raise ValueError(f"samples must lie between 2 and the {available} training examples, got {size}.")
    if not isinstance(repeated, int) or not 0 <= repeated < size:
        raise ValueError(f"repeated must lie between 0 and {size - 1} where there are {size} samples, got {repeated}.")
    if measurement.probe == "aligned_isometry_gap":
        _require_rank("the gap after aligned weights", size - repeated, width)
    if options.get("theory"):
        _check_theory(experiment, measurement, size=size, repeated=repeated)


def _check_theory(experiment: Experiment, measurement: Measurement, *, size: int, repeated: int) -> None:
    """Refuse theory of another network than the experiment's, or of another batch."""
    width = experiment.model.options.get("width")
    if measurement.probe == "isometry_gap":
        if measurement.options.get("of", "activations") != "activations" or not describes_gap(experiment):
            raise ValueError(
                "the theory of the isometry gap is of activations of deep_mlp with orthogonal weights, the identity as "
                f"activation and a norm over the batch that subtracts nothing, got {experiment.model.family} with "
                f"{experiment.norm.label}; leave theory out."
            )
        _require_rank("the theory of the isometry gap", size - repeated, width)
    elif growth(experiment, size, repeated=repeated) is None:
        return
    elif has_orthogonal_weights(experiment):
        if not is_linear(experiment):
            _require_rank("the theory of gradients through activations", size - repeated, width)
    elif repeated:
        raise ValueError(
            f"the theory of gradients through Gaussian weights needs samples that all differ, got {repeated} copies; "
            "leave out repeated, or theory."
        )


def _require_rank(what: str, different: int, width: object) -> None:
    if isinstance(width, int) and different < width:
        raise ValueError(
            f"{what} needs at least as many different samples as the network has units, {width}, got {different}; "
            "raise samples, lower width, or leave it out."
        )


_ON_SUCH_BATCHES = frozenset(
    {
        "isometry_gap",
        "weight_gradient_norm",
        "explosion_rate",
        "gradient_symmetry",
        "batch_rank",
        "normalizer_jacobian",
        "aligned_isometry_gap",
    }
)


def _lowest(inputs: Tensor) -> Tensor:
    """The least value of each channel, or feature: (1, C, 1, 1) or (1, F)."""
    return inputs.amin([axis for axis in range(inputs.ndim) if axis != 1], keepdim=True)


def _first_affine(model: nn.Module) -> nn.Linear:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            return module
    raise ValueError(f"near_identity takes the place of the first linear layer, and {type(model).__name__} has none.")


def _rotated_near_identity(like: Tensor, width: int, share: float, generator: torch.Generator) -> Tensor:
    """(W_0 X_0)^T, (samples, features), in the dtype and on the device of `like`; drawn in float64."""
    u, v = torch.rand(2, width, dtype=torch.float64, generator=generator)
    mixed = (1 - share) * torch.eye(width, dtype=torch.float64) + share * torch.outer(u, v)
    rotation = nn.init.orthogonal_(torch.empty(width, width, dtype=torch.float64), generator=generator)
    return (rotation @ mixed).mT.to(like)


def _instead_of_first(values: Tensor) -> Callable[[nn.Module, Tensor], Tensor]:
    """A forward pass in which the first linear layer returns these values."""

    def forward(model: nn.Module, inputs: Tensor) -> Tensor:
        with _returning(_first_affine(model), values):
            outputs: Tensor = model(inputs)
        return outputs

    return forward


@contextlib.contextmanager
def _returning(module: nn.Module, values: Tensor) -> Iterator[None]:
    handle = module.register_forward_hook(lambda _module, _arguments, _output: values)
    try:
        yield
    finally:
        handle.remove()
