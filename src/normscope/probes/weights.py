"""What a gradient is taken by: a model's parameters, by layer or all of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from normscope.isolation import StandIn, copy
from normscope.probes.tap import TORCH_NORMS, Select, is_normalizer_site

# Forward pre-hooks of torch that make an attribute `weight` when the layer runs; until then it is that of the last run.
_MAKES_A_WEIGHT = (WeightNorm, SpectralNorm, BasePruningMethod)


def layer_weights(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Names of the floating-point parameters of two or more axes, by the layer that owns them.

    In the order in which the model lists them. Normalizers are no such layers; what a parametrization is made of
    belongs to the layer it is registered on, and a shared parameter to the first of its owners.
    """
    layers: dict[str, tuple[str, ...]] = {}
    for name, parameter in model.named_parameters():
        inside, parametrized, _ = name.partition(".parametrizations.")
        owner = inside if parametrized else name.rpartition(".")[0]
        module = model.get_submodule(owner)
        normalizes = is_normalizer_site(module) or isinstance(module, TORCH_NORMS)
        if parameter.ndim > 1 and parameter.is_floating_point() and not normalizes:
            label = owner or type(model).__name__
            layers[label] = (*layers.get(label, ()), name)
    return layers


def selected_weights(model: nn.Module, select: Select) -> dict[str, tuple[str, ...]]:
    """Those of `layer_weights` that `select` chooses: all (None), the one listed "last", or by a function.

    Raises:
        ValueError: the function chooses none of them.
    """
    layers = layer_weights(model)
    if select is None:
        return layers
    if callable(select):
        modules = {name or type(model).__name__: module for name, module in model.named_modules()}
        chosen = [label for label in layers if select(label, modules[label])]
    else:
        chosen = list(layers)[-1:]
    if not chosen:
        raise ValueError(
            f"`select` chooses at least one layer, but it returned True for none of {', '.join(layers)}. "
            "Compare its condition with these names."
        )
    return {label: layers[label] for label in chosen}


def weight_matrices(stand_in: StandIn, layers: Mapping[str, tuple[str, ...]], *, seed: int) -> dict[str, Tensor]:
    """The weight of each layer as a matrix, by label: (out, in) of a linear layer, (out, in * k * k) of a convolution.

    What a parametrization, or a hook of torch's older ways to normalize and to prune weights, makes is the weight, not
    what it is made of. A layer without an attribute `weight`, such as a
    recurrent or attention layer, gives each of its parameters by the name of that.
    """

    def work(model: nn.Module) -> dict[str, Tensor]:  # on the copies: a parametrization may write to its buffers
        modules = {name or type(model).__name__: module for name, module in model.named_modules()}
        matrices: dict[str, Tensor] = {}
        for label, names in layers.items():
            for hook in modules[label]._forward_pre_hooks.values():
                if isinstance(hook, _MAKES_A_WEIGHT):
                    hook(modules[label], ())
            weight = getattr(modules[label], "weight", None)
            if isinstance(weight, Tensor) and weight.ndim > 1:
                matrices[label] = copy(weight.flatten(1))
            else:
                matrices.update((name, copy(stand_in.parameters[name].flatten(1))) for name in names)
        return matrices

    return stand_in.run(work, seed=seed)


def all_parameters(model: nn.Module) -> tuple[str, ...]:
    """The names of all floating-point parameters, in the order in which the model lists them."""
    return tuple(name for name, parameter in model.named_parameters() if parameter.is_floating_point())
