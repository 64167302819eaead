"""How much two similar minibatches stay alike on their way through a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.isolation import Mode, StandIn, copy, draw_seed
from normscope.probes.by_site import by_site
from normscope.probes.noise import check_noise, perturbed
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading
from normscope.probes.similarity import cosine, inner_products
from normscope.probes.tap import Select, check_select, sites, tap, unchanged_labels
from normscope.subject import Inputs, Subject


@final
@dataclass(frozen=True, kw_only=True)
class InformationPropagation(Probe):
    r"""Correlation of two similar minibatches at every site, by depth.

    .. math:: C^l = \frac{\langle z^l(x), z^l(\tilde x)\rangle}{\|z^l(x)\| \, \|z^l(\tilde x)\|},
              \qquad \tilde x = x + s \, \mathrm{std}(x) \, \varepsilon, \quad \varepsilon \sim N(0, I)

    where z(x) is a site's output for the whole minibatch, flattened into one vector. In train mode each minibatch is
    normalized by its own statistics. C → 1 with depth means an ordered network, C → c < 1 a chaotic one.

    Args:
        noise: s, as a share of the standard deviation of the inputs.
        centered: subtract from each vector its mean first (Pearson's correlation; the mean-field theory does not).
        select: the sites, see `tap.sites`; "last" reads only the site that runs last, as in the early training figures.
        mode: "train" or "eval".

    Returns:
        Reading "information_propagation", axes ("layer",) in order of execution, standard errors over batches. Two
        forward passes per batch and no graph; the site outputs of one pass are held.

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Figures 1a, 2a and 3b.
    """

    noise: float = 0.1
    centered: bool = False
    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_noise(self.noise)
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Inputs that noise can be added to."""
        return frozenset({"floating_inputs"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        batches = (self._products(stand_in, inputs, generator) for inputs, _ in subject.batches())
        correlations = ({label: cosine(three) for label, three in products.items()} for products in batches)
        return by_site("information_propagation", correlations)

    def _products(self, stand_in: StandIn, inputs: Inputs, generator: torch.Generator) -> dict[str, Tensor]:
        """The inner products of the two passes at each site, by label."""
        chosen = sites(stand_in.subject.model, self.select)
        seed = draw_seed(generator)
        clean: dict[str, Tensor] = {}
        products: dict[str, Tensor] = {}

        def keep(label: str, output: Tensor) -> None:
            if self.select == "last":
                clean.clear()
            clean[label] = self._vector(copy(output))

        def compare(label: str, output: Tensor) -> None:
            if label in clean:
                products[label] = inner_products(clean.pop(label), self._vector(output))

        with tap(chosen, keep):
            stand_in.forward(inputs, seed=seed)
        expected = tuple(clean)
        with tap(chosen, compare):
            stand_in.forward(perturbed(inputs, self.noise, generator=generator), seed=seed)
        unchanged_labels(expected, products)
        return products

    def _vector(self, output: Tensor) -> Tensor:
        return output - output.mean() if self.centered else output
