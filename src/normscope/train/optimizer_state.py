"""The state of an optimizer as named tensors, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def flatten(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's tensors as ``<name of the parameter>.<key>``.

    Raises:
        ValueError: it has parameters that are not the model's, or a state that is no tensor.
    """
    names = _names(optimizer, model)
    flat = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if not isinstance(value, Tensor):
                raise ValueError(f"the optimizer's {key} of {names[index]} must be a tensor, got {value!r}.")
            flat[f"{names[index]}.{key}"] = value
    return flat


def unflatten(optimizer: torch.optim.Optimizer, model: nn.Module, flat: Mapping[str, Tensor]) -> dict[str, Any]:
    """What ``optimizer.load_state_dict`` takes: the tensors that `flatten` gave, with the optimizer's own options.

    Raises:
        ValueError: a tensor of no parameter.
    """
    names = _names(optimizer, model)
    index_of = {name: index for index, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        parameter, _, key = name.rpartition(".")
        if parameter not in index_of:
            raise ValueError(f"it holds optimizer.{name}, which has no place here.")
        state.setdefault(index_of[parameter], {})[key] = tensor
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def options(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The class and each group's options, as JSON can hold them; what is not plain is left out."""
    groups = [
        {key: value for key, value in group.items() if key != "params" and _is_plain(value)}
        for group in optimizer.state_dict()["param_groups"]
    ]
    plain: dict[str, Any] = json.loads(json.dumps({"class": _class(optimizer), "groups": groups}))
    return plain


def check_options(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Refuse an optimizer of another class, number of groups or value of an option than was saved.

    Options that only one side knows are not compared: torch adds some from version to version.

    Raises:
        ValueError: naming what differs.
    """
    ours = options(optimizer)
    for what, mine, theirs in (
        ("optimizer", ours["class"], saved["class"]),
        ("number of parameter groups", len(ours["groups"]), len(saved["groups"])),
    ):
        if mine != theirs:
            raise ValueError(f"its {what} was {theirs}, and here it is {mine}.")
    for mine, theirs in zip(ours["groups"], saved["groups"], strict=True):
        for key in mine.keys() & theirs.keys():
            if mine[key] != theirs[key]:
                raise ValueError(f"its optimizer had {key} {theirs[key]}, and here it has {mine[key]}.")


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    # In the order in which `state_dict` numbers them.
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _names(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = _parameters(optimizer)
    foreign = sum(id(parameter) not in known for parameter in parameters)
    if foreign:
        raise ValueError(f"the optimizer must be one of the model's parameters, got {foreign} of another model.")
    return [known[id(parameter)] for parameter in parameters]


def _class(optimizer: torch.optim.Optimizer) -> str:
    # An optimizer that a precision wraps is still the same.
    inner: object = getattr(optimizer, "optimizer", optimizer)
    return type(inner).__name__


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
