"""Closed forms of `normscope.theory` for an experiment's network: growth of gradients, decay of the isometry gap."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from normscope import theory
from normscope.probes import IsometryGap, Subject
from normscope.probes.tap import sites, tap
from normscope.study.building import row
from normscope.study.experiment import Experiment


def growth(experiment: Experiment, samples: int) -> Tensor | None:
    r"""Growth of log gradient norms in each hidden layer of a `deep_mlp`, going back: (depth,), nats, float64.

    The rate of its activation at the layer's gain, plus that of Gaussian weights where it has them. None for another
    family, and for ReLU where no mean is subtracted over the batch, which theory does not describe.

    Raises:
        ValueError: Gaussian weights with too few samples for a finite rate, or a gain outside of theory's range.
    """
    if experiment.model.family != "deep_mlp":
        return None
    options: dict[str, Any] = {"weights": "orthogonal", "activation": "identity", "gain": 1.0, "gain_exponent": 0.0}
    options |= experiment.model.options
    depth, activation = int(options["depth"]), str(options["activation"])
    gain, exponent = float(options["gain"]), float(options["gain_exponent"])
    centered = row(experiment.norm).mean == "batch"
    if activation == "relu" and not centered:
        return None
    by_weights = 0.0 if options["weights"] == "orthogonal" else theory.gaussian_growth(samples, centered=centered)
    return _by_activation(activation, gain, exponent, depth) + by_weights


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
    entering = _entering(subject)
    measured = IsometryGap(side="input")(subject, generator=generator).values.tolist()
    first, count, width = measured[0], len(entering), entering[0].shape[1]
    bound = theory.isometry_gap_bound(first, width, count - 1).tolist()
    rate = theory.isometry_gap_rate(width)
    found = {
        "bound": dict(enumerate(bound, start=1)),
        "rate": {place: first * rate ** (place - 1) for place in range(1, count + 1)},
        "recursion": {},
        "expected": {},
    }
    for place, (values, gap) in enumerate(zip(entering[:-1], measured[:-1], strict=True), start=2):
        norms = torch.linalg.vector_norm(values, dim=0)
        norms = norms / norms.square().mean().sqrt()  # the gap is free of scale
        found["recursion"][place] = theory.isometry_gap_after(gap, norms)
        if place > 2:  # corollary 4 is about what a normalization has left
            eigenvalues = torch.linalg.svdvals(values).square()
            found["expected"][place] = theory.expected_gap_bound(eigenvalues / eigenvalues.mean())
    return found


def _by_activation(activation: str, gain: float, exponent: float, depth: int) -> Tensor:
    if gain == 1.0:
        return theory.shaped_growth(activation, exponent, depth)
    gains = [gain * layer**-exponent for layer in range(1, depth + 1)]
    rates = {value: theory.activation_growth(activation, value) for value in dict.fromkeys(gains)}
    return torch.tensor([rates[value] for value in gains], dtype=torch.float64)


def _entering(subject: Subject) -> list[Tensor]:
    """What enters each site in train mode, (samples, features) in float64; a copy of the model is run."""
    found: list[Tensor] = []
    twin = copy.deepcopy(subject.model).train()
    with torch.no_grad(), tap(sites(twin), lambda _label, value: found.append(value.double().clone()), side="input"):
        subject.outputs(twin, subject.batch[0])
    return found
