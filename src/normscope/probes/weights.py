"""What a gradient is taken by: a model's parameters, by layer or all of them."""

from __future__ import annotations

from torch import nn

from normscope.probes.tap import TORCH_NORMS, is_normalizer_site


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


def all_parameters(model: nn.Module) -> tuple[str, ...]:
    """The names of all floating-point parameters, in the order in which the model lists them."""
    return tuple(name for name, parameter in model.named_parameters() if parameter.is_floating_point())
