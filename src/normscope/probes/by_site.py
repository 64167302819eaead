"""From what each batch gives at every site to one reading by depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from normscope.probes.reading import Reading, mean_over_batches
from normscope.probes.tap import unchanged_labels


def by_site(
    name: str,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    unit: str = "1",
    quantities: tuple[str, ...] = (),
    axis: str = "layer",
) -> Reading:
    """Mean over batches of what each site gives: a number, or one of each of `quantities`.

    Args:
        name: of the reading.
        batches: for each batch, by label in order of execution, a 0-dim tensor, or (len(quantities),).
        unit: of the numbers.
        quantities: what the numbers are, where there are several.
        axis: what the labels are of, where it is something else than layers.

    Returns:
        Reading with axes (axis,) or ("quantity", axis), in order of execution; standard errors over batches.

    Raises:
        ValueError: no site ran, or others than in an earlier batch.
    """
    labels: tuple[str, ...] | None = None
    samples = []
    for found in batches:
        labels = unchanged_labels(labels, found)
        # Each to the CPU, as the layers of a model, or its inputs, may be on different devices.
        samples.append(torch.stack([value.cpu() for value in found.values()], dim=-1))
    values, stderr = mean_over_batches(samples)
    axes = {"quantity": quantities} if quantities else {}
    named = {**axes, axis: labels or ()}
    return Reading(name=name, unit=unit, axes=tuple(named), values=values, stderr=stderr, labels=named)
