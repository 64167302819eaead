"""Which parameters the curvature is taken by, and the vector they make."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

Selection: TypeAlias = str | Iterable[str] | Callable[[str, nn.Parameter], bool] | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The chosen parameters in the model's order, flattened one after the other into a vector.

    Attributes:
        names: of the parameters, as `model.named_parameters()` gives them; a tied one appears once.
        shapes: of the parameters.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, model: nn.Module, params: Selection) -> Layout:
        """Choose parameters: all (None), by pattern, by several, or by a function of name and parameter.

        Raises:
            ValueError: a pattern, or the whole selection, matches nothing.
            TypeError: a chosen parameter is not of a floating-point type.
        """
        available = dict(model.named_parameters())
        chosen = _chosen(available, params)
        if not chosen:
            raise ValueError(
                f"Curvature is taken by at least one parameter, but {params!r} matches none of {_some(available)}. "
                "Choose with params=..."
            )
        for name in chosen:
            if not available[name].is_floating_point():
                raise TypeError(
                    f"Curvature is taken by floating-point parameters, but {name} is {available[name].dtype}. Leave it "
                    "out with params=..."
                )
        return cls(names=tuple(chosen), shapes=tuple(available[name].shape for name in chosen))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(self.sizes)

    def split(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector (size,) as the parameters' shapes."""
        return [
            part.view(shape)
            for part, shape in zip(torch.split_with_sizes(vector, self.sizes), self.shapes, strict=True)
        ]

    @staticmethod
    def flatten(tensors: Sequence[Tensor]) -> Tensor:
        """The vector (size,) of tensors in the parameters' shapes."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _chosen(available: dict[str, nn.Parameter], params: Selection) -> list[str]:
    if params is None:
        return list(available)
    if callable(params):
        return [name for name, parameter in available.items() if params(name, parameter)]
    patterns = [params] if isinstance(params, str) else list(params)
    for pattern in patterns:
        if not fnmatch.filter(available, pattern):
            raise ValueError(
                f"A pattern of params matches at least one parameter, but {pattern!r} matches none of "
                f"{_some(available)}. Patterns are those of the shell: 'blocks.0.*', '*.weight'."
            )
    return [name for name in available if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
