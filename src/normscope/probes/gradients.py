"""How large gradients are by depth, and how alike those of two minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.by_site import by_site
from normscope.probes.noise import check_noise, perturbed
from normscope.probes.probe import Probe, check_choice, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.probes.similarity import cosine, inner_products, norm
from normscope.probes.tap import Select, check_select, sites, tap, unchanged_labels
from normscope.probes.weights import all_parameters, layer_weights
from normscope.subject import Batch, Subject

Pairs: TypeAlias = Literal["similar", "independent"]
By: TypeAlias = Literal["layer", "network"]


@final
@dataclass(frozen=True, kw_only=True)
class GradientNorm(Probe):
    r"""Size of the loss's gradient at every site, by depth.

    .. math:: \left\| \frac{\partial L}{\partial z^l} \right\|_2

    where z is a site's output for the whole minibatch. Mean-field theory has its square grow backwards by π/(π-1) per
    layer in a chaotic ReLU network and by 1 in an ordered one. A site the loss does not depend on has norm 0.

    Args:
        select: the sites, see `tap.sites`; "last" reads only the site that runs last, and differentiates no further.
        mode: "train" or "eval".

    Returns:
        Reading "gradient_norm", axes ("layer",) in order of execution, standard errors over batches. One forward and
        one backward pass per batch for all sites; parameters are constants, so no gradient of theirs is computed.

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Figure 2b; Yang et al., "A mean field
    theory of batch normalization", arXiv:1902.08129.
    """

    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Nothing: sites are looked for when it runs."""
        return frozenset()

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        batches = (self._norms(stand_in, batch, seed=draw_seed(generator)) for batch in subject.batches())
        return by_site("gradient_norm", batches)

    def _norms(self, stand_in: StandIn, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        edges: dict[str, GradientEdge] = {}

        def begin(label: str, output: Tensor) -> Tensor:
            fresh = recorded(label, output)
            if self.select == "last":
                edges.clear()
            edges[label] = get_gradient_edge(fresh)
            return fresh

        def work(model: nn.Module) -> dict[str, Tensor]:
            with tap(sites(stand_in.subject.model, self.select), begin):
                loss = stand_in.loss(model, batch)
                read = dict(edges)
                unchanged_labels(None, read)
                # Still tapped: checkpointed modules run again now, and their graph has to begin at the sites again.
                gradients = torch.autograd.grad(differentiable(loss), list(read.values()), allow_unused=True)
            absent = torch.zeros(1, device=loss.device)
            return {
                label: norm(absent if gradient is None else gradient)
                for label, gradient in zip(read, gradients, strict=True)
            }

        return stand_in.run(work, seed=seed)


@final
@dataclass(frozen=True, kw_only=True)
class GradientCorrelation(Probe):
    r"""Correlation of the parameter gradients of two minibatches.

    .. math:: G^l = \frac{\langle g^l(x, y), g^l(x', y')\rangle}{\|g^l(x, y)\| \, \|g^l(x', y')\|},
              \qquad g^l = \frac{\partial L}{\partial W^l}

    Args:
        pairs: what the second minibatch is. "similar": the first with noise on its inputs and the same targets,
            x' = x + s std(x) ε. "independent": the next one; pairs are the disjoint consecutive pairs of
            [batch, *more], and an odd last batch is left out.
        by: "layer" reads each affine layer on its own: all its parameters of two or more axes, flattened into one
            vector (the weight; for a weight-normalized layer what it is made of). "network" takes all parameters,
            biases and gains included, as one vector.
        noise: s, as a share of the standard deviation of the inputs; only for similar pairs.
        mode: "train" or "eval".

    Returns:
        Reading "gradient_correlation", axes ("layer",) in the order the model lists its parameters, or () for the
        network; standard errors over pairs. Frozen parameters are read like the others. Two forward and backward passes
        per pair. NaN where a gradient is zero.

    A value near 1 is what the source calls gradient confusion; other work uses that word for values below 0.

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Figures 1b and 3c; independent pairs:
    Sankararaman et al., "The impact of neural network overparameterization on gradient confusion", arXiv:1904.06963.
    """

    pairs: Pairs = "similar"
    by: By = "layer"
    noise: float = 0.1
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_choice("pairs", self.pairs, get_args(Pairs))
        check_choice("by", self.by, get_args(By))
        check_noise(self.noise)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Weights to differentiate by, and inputs that noise can be added to or a second batch."""
        return frozenset(
            {
                "layer_weights" if self.by == "layer" else "parameters",
                "floating_inputs" if self.pairs == "similar" else "two_batches",
            }
        )

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        vectors = layer_weights(subject.model) if self.by == "layer" else {"": all_parameters(subject.model)}
        stand_in = StandIn.of(subject, differentiate=frozenset(name for names in vectors.values() for name in names))
        samples = []
        for first, second in self._pairs(subject, generator):
            seed = draw_seed(generator)
            g, h = parameter_gradients(stand_in, first, seed=seed), parameter_gradients(stand_in, second, seed=seed)
            products = {name: inner_products(g[name], h[name]) for name in g}
            per_vector = [torch.stack([products[name] for name in names]).sum(0) for names in vectors.values()]
            samples.append(cosine(torch.stack(per_vector)))
        values, stderr = mean_over_batches(samples)
        if self.by == "network":
            values, stderr = values.squeeze(0), None if stderr is None else stderr.squeeze(0)
        labels = {"layer": tuple(vectors)} if self.by == "layer" else {}
        return Reading(
            name="gradient_correlation", unit="1", axes=tuple(labels), values=values, stderr=stderr, labels=labels
        )

    def _pairs(self, subject: Subject, generator: torch.Generator) -> Iterator[tuple[Batch, Batch]]:
        batches = subject.batches()
        if self.pairs == "independent":
            yield from zip(batches, batches, strict=False)
            return
        for inputs, targets in batches:
            yield (inputs, targets), (perturbed(inputs, self.noise, generator=generator), targets)


def recorded(label: str, output: Tensor) -> Tensor:
    """A copy of an output, to take its place, at which autograd can be asked for the gradient.

    A tensor of its own, so that its edge stays right when the next layer overwrites it in place. Where all upstream is
    constant, adding zeros that require a gradient begins the graph here.

    Raises:
        ValueError: autograd does not record this forward pass.
    """
    fresh = output.clone() if output.requires_grad else output + torch.zeros_like(output, requires_grad=True)
    if not fresh.requires_grad:
        raise ValueError(
            f"A gradient at a site needs a forward pass that autograd records, but {label!r} runs under "
            "no_grad or reentrant checkpointing. Checkpoint with use_reentrant=False, or choose other sites "
            "by select=lambda name, module: ..."
        )
    return fresh


def parameter_gradients(stand_in: StandIn, batch: Batch, *, seed: int) -> dict[str, Tensor]:
    """The gradient of the loss by each parameter of the stand-in that requires one; zero where the loss needs none."""
    return loss_and_gradients(stand_in, batch, seed=seed)[1]


def loss_and_gradients(stand_in: StandIn, batch: Batch, *, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, without a graph, and `parameter_gradients`."""
    wanted = {name: parameter for name, parameter in stand_in.parameters.items() if parameter.requires_grad}

    def work(model: nn.Module) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = differentiable(stand_in.loss(model, batch))
        return loss.detach(), torch.autograd.grad(
            loss, list(wanted.values()), allow_unused=True, materialize_grads=True
        )

    loss, gradients = stand_in.run(work, seed=seed)
    return loss, dict(zip(wanted, gradients, strict=True))


def differentiable(loss: Tensor) -> Tensor:
    """The loss, after checking that autograd leads from it to the network.

    Raises:
        ValueError: it does not.
    """
    if not loss.requires_grad:
        raise ValueError(
            "A gradient needs a loss that depends on the network through autograd, but this one does not. "
            "Remove detach(), .item() or no_grad from the model and loss_fn."
        )
    return loss
