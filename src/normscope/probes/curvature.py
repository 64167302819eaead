"""The Hessian of the loss: the density of its eigenvalues, and the outermost of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn

from normscope import linalg
from normscope.curvature import MACHINERIES, HessianOperator
from normscope.curvature.machinery import MachineryName
from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading
from normscope.subject import Subject

Params = str | tuple[str, ...] | None


def _ignore(done: int) -> None:
    """Report nothing."""


@final
@dataclass(frozen=True, kw_only=True)
class SpectralDensity(Probe):
    r"""Density of the eigenvalues of the loss's Hessian, as Gauss rules by stochastic Lanczos quadrature.

    .. math:: \frac1n \sum_i f(\lambda_i) \approx \frac1S \sum_s \sum_j \omega_{sj} f(\theta_{sj})

    Args:
        num_matvecs: products, and nodes, of each sample; fewer where the Krylov spaces are complete before.
        num_samples: random vectors that Lanczos starts from.
        params: parameters the curvature is taken by: all (None), or those whose names match one of the shell patterns.
        mode: "train" or "eval". The loss is `subject.loss_fn` alone, as a mean over the examples of all batches.
        memory_limit: bytes that products may take; None for most of what is free.
        progress: called with the number of products done so far.

    Returns:
        Reading "spectral_density", axes ("quantity", "sample", "node") with quantities "node" (eigenvalues, ascending),
        "weight" (a sample's sum to 1) and "residual" (an eigenvalue lies within it of the node). All NaN where the loss
        is not finite. Smoothing is a later step: `normscope.linalg.smooth`. No standard error: the spread over samples
        is there as it is, and batches are pooled.

    Source: Ghorbani, Krishnan and Xiao, "An investigation into neural net optimization via Hessian eigenvalue density",
    arXiv:1901.10159, algorithm 1; Rao and Sohl-Dickstein, arXiv:2010.10687, Figure 4.
    """

    num_matvecs: int = 80
    num_samples: int = 2
    params: Params = None
    mode: Mode = "train"
    memory_limit: int | None = None
    progress: Callable[[int], None] = field(default=_ignore, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_count("num_matvecs", self.num_matvecs)
        _check_count("num_samples", self.num_samples)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Parameters to differentiate by."""
        return frozenset({"parameters"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        values = torch.full((3, self.num_samples, self.num_matvecs), math.nan, dtype=torch.float64)
        if _loss_is_finite(subject, generator):
            hessian = hessian_of(subject, params=self.params, mode=self.mode, memory_limit=self.memory_limit)
            density = linalg.spectral_density(
                hessian, self.num_matvecs, self.num_samples, generator=generator, progress=self.progress
            )
            values = torch.stack([density.nodes, density.weights, density.residuals])
        return Reading(
            name="spectral_density",
            unit="1",
            axes=("quantity", "sample", "node"),
            values=values,
            labels={
                "quantity": ("node", "weight", "residual"),
                "sample": _numbers(values.shape[1]),
                "node": _numbers(values.shape[2]),
            },
        )


@final
@dataclass(frozen=True, kw_only=True)
class Sharpness(Probe):
    r"""The k largest eigenvalues of the loss's Hessian and the smallest one.

    Args:
        k: how many of the largest; with k the number of classes, :math:`\lambda_1 / \lambda_k` tells outliers.
        tolerance: an eigenvalue has converged when its residual is at most this share of the largest magnitude.
        max_matvecs: products after which the search ends for the k largest, and again for the smallest.
        params: parameters the curvature is taken by: all (None), or those whose names match one of the shell patterns.
        mode: "train" or "eval". The loss is `subject.loss_fn` alone, as a mean over the examples of all batches.
        memory_limit: bytes that products may take; None for most of what is free.
        progress: called with the number of products done so far.

    Returns:
        Reading "sharpness", axes ("quantity", "eigenvalue") with quantities "value", "residual" (an eigenvalue lies
        within it of the value) and "converged" (1 or 0), and eigenvalues "1", ..., "k" in descending order and "min".
        All NaN where the loss is not finite. No standard error: batches are pooled.

    Source: LeCun, Simard and Pearlmutter, "Automatic learning rate maximization by on-line estimation of the Hessian's
    eigenvectors", 1992; Rao and Sohl-Dickstein, arXiv:2010.10687, Figure 6.
    """

    k: int = 10
    tolerance: float = 1e-3
    max_matvecs: int = 400
    params: Params = None
    mode: Mode = "train"
    memory_limit: int | None = None
    progress: Callable[[int], None] = field(default=_ignore, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_count("k", self.k)
        _check_count("max_matvecs", self.max_matvecs)
        if not 0 < self.tolerance < math.inf:
            raise ValueError(f"`tolerance` is above 0 and finite, but {self.tolerance} arrived. Pass 1e-3, say.")
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Parameters to differentiate by."""
        return frozenset({"parameters"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        values = torch.full((3, self.k + 1), math.nan, dtype=torch.float64)
        if _loss_is_finite(subject, generator):
            hessian = hessian_of(subject, params=self.params, mode=self.mode, memory_limit=self.memory_limit)
            values = self._both_ends(hessian, generator)
        return Reading(
            name="sharpness",
            unit="1",
            axes=("quantity", "eigenvalue"),
            values=values,
            labels={"quantity": ("value", "residual", "converged"), "eigenvalue": (*_numbers(self.k), "min")},
        )

    def _both_ends(self, hessian: HessianOperator, generator: torch.Generator) -> Tensor:
        """Rows value, residual, converged; columns the k largest and the smallest."""
        top = linalg.top_eigenpairs(
            hessian,
            self.k,
            generator=generator,
            tolerance=self.tolerance,
            max_matvecs=self.max_matvecs,
            progress=self.progress,
        )
        bottom = linalg.top_eigenpairs(
            hessian,
            1,
            generator=generator,
            which="smallest",
            tolerance=self.tolerance,
            max_matvecs=self.max_matvecs,
            progress=lambda done: self.progress(top.num_matvecs + done),
        )
        return torch.stack(
            [
                torch.cat([top.values, bottom.values]),
                torch.cat([top.residuals, bottom.residuals]),
                torch.cat([top.converged, bottom.converged]).double(),
            ]
        ).cpu()


def hessian_of(subject: Subject, *, params: Params, mode: Mode, memory_limit: int | None) -> HessianOperator:
    """The Hessian on all of the subject's batches by the first machinery that is exact for it and fits into memory.

    Not by the one that is quickest at the moment: its products would repeat to the last bit only by chance.

    Raises:
        ValueError: there is none; from `HessianOperator`.
    """
    *others, last = MACHINERIES
    batches = list(subject.batches())

    def operator(machinery: MachineryName) -> HessianOperator:
        return HessianOperator(
            subject.model,
            subject.loss_fn,
            batches,
            params,
            mode=mode,
            forward=subject.forward,
            machinery=machinery,
            memory_limit=memory_limit,
        )

    for machinery in others:
        try:
            return operator(machinery)
        except ValueError:
            continue
    return operator(last)


def _loss_is_finite(subject: Subject, generator: torch.Generator) -> bool:
    """Whether the loss is finite on every batch; the curvature of a model that diverged is not defined."""
    stand_in, seed = StandIn.of(subject), draw_seed(generator)

    def losses(model: nn.Module) -> list[Tensor]:
        return [stand_in.loss(model, batch).detach() for batch in subject.batches()]

    return bool(torch.stack(stand_in.run(losses, seed=seed)).isfinite().all())


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"`{name}` is at least 1, but {value} arrived. Choose a larger one.")


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(1, count + 1)))
