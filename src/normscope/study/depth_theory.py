"""Closed forms of `normscope.theory` for an experiment's network: growth of gradients, decay of the isometry gap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from normscope import Normalizer, isolation, theory
from normscope.nn import External, Site
from normscope.probes import IsometryGap, Subject
from normscope.probes.tap import sites, tap
from normscope.study.building import row
from normscope.study.experiment import Experiment


def growth(experiment: Experiment, samples: int, *, repeated: int = 0) -> Tensor | None:
    r"""Growth of log gradient norms in each hidden layer of a `deep_mlp`, going back: (depth,), nats, float64.

    The rate of its activation at the layer's gain; plus that of Gaussian weights where it has them, or that of
    orthogonal ones on a batch of lesser rank than units where the activation is the identity. Samples are taken to be
    in general position but for the `repeated` copies among them. Division by the norm over the batch, in place of the
    root mean square, makes the gain smaller by :math:`\sqrt n`. None for what theory does not describe: another family,
    a norm that is not of the second moment over the batch, switches, and ReLU where no mean is subtracted.

    Raises:
        ValueError: too few samples, or too many copies, for a finite rate; a gain outside of theory's range.
    """
    normalizer, options = row(experiment.norm), _options(experiment)
    if experiment.model.family != "deep_mlp" or experiment.switches or not _of_second_moment(normalizer):
        return None
    depth, activation = int(options["depth"]), str(options["activation"])
    gain, exponent = float(options["gain"]), float(options["gain_exponent"])
    centered = normalizer.mean == "batch"
    if activation == "relu" and not centered:
        return None
    if normalizer.divisor == "norm":
        gain /= math.sqrt(samples)
    by_weights = 0.0
    if not has_orthogonal_weights(experiment):
        by_weights = theory.gaussian_growth(samples, centered=centered)
    elif is_linear(experiment):
        width = int(options["width"])
        by_weights = theory.orthogonal_growth(min(samples - repeated - centered, width), width)
    return _by_activation(activation, gain, exponent, depth) + by_weights


def norm_over_batch(experiment: Experiment, samples: int) -> float | None:
    r"""What the norm of each feature over a batch is after a normalization, where that is all it does to the feature.

    1, or :math:`\sqrt n` of a root mean square; None for rows that do something else, and with switches.
    """
    normalizer = row(experiment.norm)
    if experiment.switches or not _of_second_moment(normalizer) or normalizer.mean is not None:
        return None
    return 1.0 if normalizer.divisor == "norm" else math.sqrt(samples)


def describes_gap(experiment: Experiment) -> bool:
    """Whether the theory of the isometry gap is of its network: linear, orthogonal weights, nothing subtracted."""
    linear = is_linear(experiment) and has_orthogonal_weights(experiment)
    return experiment.model.family == "deep_mlp" and linear and norm_over_batch(experiment, 1) is not None


def has_orthogonal_weights(experiment: Experiment) -> bool:
    """Whether the weights of a `deep_mlp` are drawn orthogonal."""
    return bool(_options(experiment)["weights"] == "orthogonal")


def is_linear(experiment: Experiment) -> bool:
    """Whether a `deep_mlp` has the identity as activation."""
    return bool(_options(experiment)["activation"] == "identity")


def gaps(subject: Subject, generator: torch.Generator) -> dict[str, dict[int, float]]:
    r"""What theory says of the isometry gap of the inputs of sites, by name and number of the site.

    With :math:`\varphi_l` the gap of what enters site l, in a network with the identity as activation and orthogonal
    weights:

    * bound: theorem 1 with the constants of its proof, from :math:`\varphi_1` on.
    * rate: :math:`\varphi_1 (1 - 2/(d+2))^{l-1}`, the rate of small gaps.
    * recursion: :math:`\varphi_l` exactly, from the gap and the row norms of what enters site l - 1.
    * expected: corollary 4's bound on its expectation, from the eigenvalues of what leaves site l - 2 (and, rotated,
      enters site l - 1).
    """
    entered = entering(subject, sites(subject.model), generator)
    values = torch.stack(list(entered.values()))  # (sites, samples, features)
    measured = IsometryGap(side="input")(subject, generator=generator).values.tolist()
    first, (count, _, width) = measured[0], values.shape
    norms = torch.linalg.vector_norm(values, dim=1)
    norms = norms / norms.square().mean(1, keepdim=True).sqrt()  # the gap is free of scale
    eigenvalues = torch.linalg.svdvals(values).square()
    eigenvalues = eigenvalues / eigenvalues.mean(1, keepdim=True)
    bound = theory.isometry_gap_bound(first, width, count - 1).tolist()
    rate = theory.isometry_gap_rate(width)
    found = {
        "bound": dict(enumerate(bound, start=1)),
        "rate": {place: first * rate ** (place - 1) for place in range(1, count + 1)},
        "recursion": {},
        "expected": {},
    }
    for place in range(2, count + 1):
        before = place - 2  # sites count from 1
        found["recursion"][place] = theory.isometry_gap_after(measured[before], norms[before])
        if place > 2:  # corollary 4 is about what a normalization has left
            found["expected"][place] = theory.expected_gap_bound(eigenvalues[before])
    return found


def entering(subject: Subject, modules: Mapping[str, nn.Module], generator: torch.Generator) -> dict[str, Tensor]:
    """What enters each of some sites in train mode, in order of execution: (samples, features), float64.

    Raises:
        ValueError: a site is given something other than a feature vector for each sample.
    """
    found: dict[str, Tensor] = {}

    def read(name: str, value: Tensor) -> None:
        if value.ndim != 2:
            raise ValueError(
                f"what enters a site is read as samples and features, got the shape {tuple(value.shape)} at {name}; "
                "choose the family deep_mlp."
            )
        found[name] = isolation.copy(value, torch.float64)

    seed = isolation.draw_seed(generator)
    with isolation.isolated(subject, mode="train", seed=seed), tap(modules, read, side="input"):
        isolation.StandIn.of(subject).forward(subject.batch[0], seed=seed)
    return found


def _options(experiment: Experiment) -> dict[str, Any]:
    """A `deep_mlp`'s, with the constructor's defaults."""
    defaults = {"weights": "orthogonal", "activation": "identity", "gain": 1.0, "gain_exponent": 0.0}
    return defaults | experiment.model.options


def _of_second_moment(normalizer: Normalizer | External) -> TypeGuard[Normalizer]:
    """Whether features are divided by the root of their second moment over the batch, about their mean or not."""
    if not isinstance(normalizer, Normalizer) or normalizer.algorithm is not Site:
        return False
    over_batch = normalizer.scale == "batch" and normalizer.mean in (None, "batch")
    return over_batch and normalizer.divisor in ("std", "rms", "norm")


def _by_activation(activation: str, gain: float, exponent: float, depth: int) -> Tensor:
    if gain == 1.0:
        return theory.shaped_growth(activation, exponent, depth)
    gains = [gain * layer**-exponent for layer in range(1, depth + 1)]
    rates = {value: theory.activation_growth(activation, value) for value in dict.fromkeys(gains)}
    return torch.tensor([rates[value] for value in gains], dtype=torch.float64)
