"""How far activations and weights are from an isometry, by depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.by_site import by_site
from normscope.probes.matrices import Batched, samples_by_features, unit_scale, where_finite
from normscope.probes.probe import Probe, check_choice, check_mode
from normscope.probes.reading import Reading
from normscope.probes.tap import Select, Side, check_select, sites, tap
from normscope.probes.weights import selected_weights, weight_matrices
from normscope.subject import Inputs, Subject

Of: TypeAlias = Literal["activations", "weights"]

# Entries rounded to eps / 2 move singular values by up to about eps times the largest: |E| is at most about
# (sqrt(d) + sqrt(n)) rms eps / 2, and s_1 at least sqrt(max(d, n)) rms. Two, as entries come out of several roundings.
_ROUNDINGS = 2
_COARSEST = torch.finfo(torch.float32).eps  # by half precision's own, hardly a matrix has full rank


@final
@dataclass(frozen=True, kw_only=True)
class IsometryGap(Probe):
    r"""How unequal the singular values of a batch's activations, or of the weights, are by depth.

    .. math:: \varphi(X) = \log \frac1d \sum_k s_k^2 - \frac1d \sum_k \log s_k^2 \ge 0

    the logarithm of the arithmetic over the geometric mean of the eigenvalues of :math:`X X^\top`, from singular values
    :math:`s_k`, since squares would lose half of the digits. 0 where X is orthogonal up to a factor; infinite where its
    rank is less than d, which is a result: :math:`s_d \le 2 \epsilon s_1`, with the precision of the activations' dtype
    (float32's for half precision) and what the decomposition itself rounds; weights are taken as exact.

    Activations: X has a row for each of the d channels of a site and a column for each example (and position). Fewer
    columns than rows, then, make the gap infinite. Subtracting each channel's mean over the batch leaves one direction
    null, without more; the gap of centered values leaves it out where there are as many columns as rows (it then is
    over d - 1 singular values), and is infinite with fewer. Subtracting the mean over channels, as LayerNorm does,
    takes a direction away for good.

    Weights: (out, in) of a linear layer, (out, in * k * k) of a convolution, over the smaller of the two numbers.

    Args:
        of: "activations" of sites or "weights" of layers.
        centered: subtract the means over the batch first (True), take values as they are (False), or do as True exactly
            where these means vanish to rounding (None). Of no effect on weights.
        select: the sites, see `tap.sites`; of weights, the layers that a function of (name, module) chooses, or the
            "last" listed.
        mode: "train" or "eval".
        side: read a site's "output", or its first "input", before the module runs. Of no effect on weights.

    Returns:
        Reading "isometry_gap", axes ("layer",) in order of execution (of weights, of listing), in nats. Standard errors
        over batches; none of weights, which are read without a forward pass. NaN where a value is not finite.

    Source: Joudaki, Daneshmand and Bach 2023, arXiv:2305.18399; Meterez et al. 2024, arXiv:2310.02012, equation 5.
    """

    of: Of = "activations"
    centered: bool | None = None
    select: Select = None
    mode: Mode = "train"
    side: Side = "output"

    def __post_init__(self) -> None:
        check_choice("of", self.of, get_args(Of))
        check_choice("side", self.side, get_args(Side))
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Of weights, layers that have them; of activations nothing: sites are looked for when it runs."""
        return frozenset({"layer_weights"} if self.of == "weights" else ())

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        if self.of == "weights":
            layers = selected_weights(subject.model, self.select)
            gaps = Batched(_gaps)
            for label, weight in weight_matrices(stand_in, layers, seed=draw_seed(generator)).items():
                gaps.add(label, unit_scale(weight), min(weight.shape), 0.0)
            return _by_layer("isometry_gap", "nats", gaps.results())
        batches = (self._of_sites(stand_in, inputs, seed=draw_seed(generator)) for inputs, _ in subject.batches())
        return by_site("isometry_gap", batches, unit="nats")

    def _of_sites(self, stand_in: StandIn, inputs: Inputs, *, seed: int) -> dict[str, Tensor]:
        """The gap at every site of one batch, by label."""
        chosen = sites(stand_in.subject.model, self.select)
        gaps = Batched(_gaps)

        def read(label: str, value: Tensor) -> None:
            if self.select == "last":
                gaps.clear()
            module = chosen[label.partition("#")[0]]
            eps = torch.finfo(value.dtype).eps
            matrix = unit_scale(samples_by_features(label, module, value))  # samples by features
            samples, features = matrix.shape
            centered = _has_no_means(matrix, eps) if self.centered is None else self.centered
            if centered:
                matrix = matrix - matrix.mean(0)
            if samples > features:  # the factor R has the same singular values
                matrix = torch.linalg.qr(matrix, mode="r").R
            gaps.add(label, matrix, features - 1 if centered and samples == features else features, min(eps, _COARSEST))

        with tap(chosen, read, side=self.side):
            stand_in.forward(inputs, seed=seed)
        return gaps.results()


@final
@dataclass(frozen=True, kw_only=True)
class WeightOrthogonality(Probe):
    r"""How far each weight is from orthogonal up to a factor, by layer.

    .. math:: \left\| \frac{d}{\mathrm{tr}(W W^\top)} W W^\top - I \right\|_F \Big/ \| I \|_F

    with W as `IsometryGap` reads weights: d rows of in (in * k * k) numbers, or its transpose where these are fewer. 0
    where rows are orthogonal and of one norm; about :math:`\sqrt{d / \mathrm{in}}` for independent Gaussian entries.
    Unlike the gap it is finite, and hardly moved, where a few singular values are zero.

    Args:
        select: the layers that a function of (name, module) chooses, or the "last" listed.
        mode: "train" or "eval", which may matter to a parametrized weight.

    Returns:
        Reading "weight_orthogonality", axes ("layer",) in the order of listing. No standard error: no batch is read.
        NaN of a weight that is zero or not finite.
    """

    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Layers with weights."""
        return frozenset({"layer_weights"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        layers = selected_weights(subject.model, self.select)
        distances = Batched(_distances_from_orthogonal)
        for label, weight in weight_matrices(StandIn.of(subject), layers, seed=draw_seed(generator)).items():
            distances.add(label, unit_scale(weight if len(weight) <= weight.shape[1] else weight.mT))
        return _by_layer("weight_orthogonality", "1", distances.results())


def _by_layer(name: str, unit: str, values: dict[str, Tensor]) -> Reading:
    return Reading(
        name=name,
        unit=unit,
        axes=("layer",),
        values=torch.stack([value.cpu() for value in values.values()]),
        labels={"layer": tuple(values)},
    )


def _has_no_means(matrix: Tensor, eps: float) -> bool:
    """Whether the mean of every column is rounding: half of the digits below its root mean square."""
    return bool((matrix.mean(0).abs() <= math.sqrt(eps) * matrix.square().mean(0).sqrt()).all())


def _gaps(matrices: Tensor, kept: int, eps: float) -> Tensor:
    """The gap over the `kept` largest singular values of each of (B, rows, columns); inf where there are fewer."""

    def gaps(finite: Tensor) -> Tensor:
        if not 0 < kept <= min(finite.shape[1:]):
            return finite.new_full((len(finite),), torch.inf)
        values: Tensor = torch.linalg.svdvals(finite)[:, :kept]  # (B, kept), descending
        ratios = values / values[:, :1]
        gap = (ratios.square().mean(1).log() - 2 * ratios.log().mean(1)).clamp_min(0)
        rounding = _ROUNDINGS * eps + max(finite.shape[1:]) * torch.finfo(finite.dtype).eps
        return gap.where(values[:, -1] > rounding * values[:, 0], torch.inf)

    return where_finite(matrices, gaps)


def _distances_from_orthogonal(matrices: Tensor) -> Tensor:
    """Relative distance of W Wᵀ, over its mean diagonal, from the identity: (B, rows, columns) to (B,)."""
    gram = matrices @ matrices.mT
    size = gram.shape[-1]
    scaled = gram / gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    identity = torch.eye(size, dtype=gram.dtype, device=gram.device)
    distances: Tensor = (scaled - identity).square().sum((1, 2)).sqrt()
    return distances / math.sqrt(size)
