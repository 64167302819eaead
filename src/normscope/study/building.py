"""From a recipe's names to the objects they stand for."""

from __future__ import annotations

import math

import torch
from torch import nn

import normscope as ns
from normscope.data import Dataset
from normscope.models import MLP, WideResNet
from normscope.study.recipe import Norm, Recipe


def row(norm: Norm) -> ns.Normalizer:
    """The row of the table, with the recipe's options."""
    options = dict(norm.options)
    if "name" in options:  # would be taken for the argument of that name
        raise ValueError(f"{norm.name} has no option 'name'; leave it out.")
    return ns.normalizer(norm.name, **options)


def network(recipe: Recipe, norm: Norm, dataset: Dataset, *, depth: int, generator: torch.Generator) -> nn.Module:
    """The recipe's model for this data set at the given depth, with the normalizer injected, on the data's device."""
    return _on_cpu(recipe, norm, dataset, depth, generator).to(dataset.train.inputs.device)


def _on_cpu(recipe: Recipe, norm: Norm, dataset: Dataset, depth: int, generator: torch.Generator) -> nn.Module:
    shape = dataset.input_shape
    if recipe.model == "mlp":
        return MLP(
            math.prod(shape),
            dataset.num_classes,
            depth=depth,
            width=recipe.width,
            normalizer=row(norm),
            generator=generator,
        )
    if len(shape) != 3:
        raise ValueError(f"the model wrn takes images, and {dataset.name} has inputs of shape {shape}; use model mlp.")
    return WideResNet(
        shape[0],
        dataset.num_classes,
        depth=depth,
        widen_factor=recipe.width,
        skips=recipe.skips,
        normalizer=row(norm),
        generator=generator,
    )
