"""How many directions a batch spans, and how alike its examples are, on their way through a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from normscope.curvature.batches import num_examples
from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.by_site import by_site
from normscope.probes.matrices import Batched, unit_scale, where_finite
from normscope.probes.probe import Probe, check_choice, check_mode
from normscope.probes.reading import Reading
from normscope.probes.tap import Select, check_select, sites, tap, unchanged_labels
from normscope.subject import Batch, Inputs, Subject

Statistic: TypeAlias = Literal["rank", "cosine"]
Precision: TypeAlias = Literal["float64", "float32"]

_INPUT = "input"


@final
@dataclass(frozen=True, kw_only=True)
class BatchRank(Probe):
    r"""Rank of the Gram matrix of a batch, of its inputs and of every site's output; or the mean cosine within it.

    .. math:: G_{ij} = \langle z_i, z_j \rangle, \qquad \mathrm{rank}\, G \quad \text{or} \quad
              \frac{1}{n(n-1)} \sum_{i \ne j} \frac{G_{ij}}{\sqrt{G_{ii} G_{jj}}}

    where :math:`z_i` is all that a site makes of example i, flattened. The rank counts the eigenvalues above n ε times
    the largest, ε that of `precision`. They are squares: directions of less than √(n ε) of the largest do not count,
    which is 1.5e-7 for 100 examples in float64 and 0.003 in float32, where batches of images lose many.
    Rounding within a float32 network can make equal examples differ; whether a batch is degenerate, its inputs tell.

    Args:
        statistic: "rank" or "cosine".
        precision: of the Gram matrix and its eigenvalues, "float64" or "float32".
        select: the sites, see `tap.sites`.
        mode: "train" or "eval".

    Returns:
        Reading "batch_rank" or "batch_cosine", axes ("layer",): "input" (all floating-point inputs together that have
        as many rows as the first input; absent if there are none), then the sites in order of execution, of which one
        called input is "input#1"; standard errors over batches. NaN where a value is not finite, and of the cosine of a
        single example or a zero one.

    Source: Meterez et al. 2024, arXiv:2310.02012, table D1.
    """

    statistic: Statistic = "rank"
    precision: Precision = "float64"
    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_choice("statistic", self.statistic, get_args(Statistic))
        check_choice("precision", self.precision, get_args(Precision))
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Nothing: sites are looked for when it runs."""
        return frozenset()

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        batches = (self._of_batch(stand_in, batch, seed=draw_seed(generator)) for batch in subject.batches())
        return by_site(f"batch_{self.statistic}", batches)

    def _of_batch(self, stand_in: StandIn, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """The statistic of the inputs and at every site, by label."""
        at_sites = self._of_sites(stand_in, batch[0], seed=seed)
        unchanged_labels(None, at_sites)  # the inputs alone are no reading by depth
        per_example = _per_example(batch)
        if not per_example:
            return at_sites
        (at_input,) = self._statistics(self._gram(per_example).unsqueeze(0))
        return {_INPUT: at_input} | {
            f"{label}#1" if label == _INPUT else label: value for label, value in at_sites.items()
        }

    def _of_sites(self, stand_in: StandIn, inputs: Inputs, *, seed: int) -> dict[str, Tensor]:
        """The statistic at every site of one batch, by label."""
        statistics = Batched(self._statistics)

        def read(label: str, output: Tensor) -> None:
            if output.ndim == 0:
                raise ValueError(
                    f"A site's output has one row for each example, but {label!r} returned a single number. "
                    "Leave it out by select=lambda name, module: ..."
                )
            if self.select == "last":
                statistics.clear()
            statistics.add(label, self._gram([output]))

        with tap(sites(stand_in.subject.model, self.select), read):
            stand_in.forward(inputs, seed=seed)
        return statistics.results()

    def _gram(self, parts: Sequence[Tensor]) -> Tensor:
        """⟨z_i, z_j⟩ up to a factor, (n, n), of examples that consist of `parts`."""
        rows = unit_scale(torch.cat([part.detach().reshape(len(part), -1) for part in parts], dim=1))
        rows = rows.to(torch.float64 if self.precision == "float64" else torch.float32)
        return rows @ rows.mT

    def _statistics(self, grams: Tensor) -> Tensor:
        """The statistic of each of (B, n, n): (B,), float64."""
        return where_finite(grams, self._ranks if self.statistic == "rank" else _cosines)

    def _ranks(self, grams: Tensor) -> Tensor:
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        ranks: Tensor = torch.linalg.matrix_rank(grams.to(dtype), hermitian=True)
        return ranks.double()


def _per_example(batch: Batch) -> list[Tensor]:
    """The floating-point inputs that have a row for each example; what has another length is no part of an example."""
    leaves = [leaf for leaf in pytree.tree_leaves(batch[0]) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return [leaf for leaf in leaves if leaf.ndim and len(leaf) == num_examples(batch)]


def _cosines(grams: Tensor) -> Tensor:
    """The mean of the cosines of different examples, of each of (B, n, n): (B,)."""
    lengths = grams.diagonal(dim1=1, dim2=2).sqrt()  # (B, n)
    cosines = grams / (lengths.unsqueeze(1) * lengths.unsqueeze(2))
    count = grams.shape[1]
    total = cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)
    return total.double() / (count * (count - 1)) if count > 1 else torch.full_like(total, torch.nan).double()
