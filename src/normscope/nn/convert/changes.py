"""What a plan holds: which module takes the place of which, and what the table will say."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from normscope.nn.convert.report import ConversionRow


@dataclass(frozen=True, slots=True, eq=False)
class ConvertedSite:
    """One place of normalization, before and after. `new` may hold the site with what ran after the old norm.

    Attributes:
        name: its first name in the model.
        old: the module that stood there.
        new: the module that stands there now.
        site: the row's own module: `new`, or within it.
        channel_dim: the channel axis of what `old` takes and returns.
    """

    name: str
    old: nn.Module
    new: nn.Module
    site: nn.Module
    channel_dim: int


@dataclass(slots=True, kw_only=True, eq=False)
class Plan:
    """Modules to put in, in the place of which; the rows of the table; and what was refused, by name."""

    replace: dict[nn.Module, nn.Module] = field(default_factory=dict)
    sites: list[ConvertedSite] = field(default_factory=list)
    rows: list[ConversionRow] = field(default_factory=list)
    refused: list[ConversionRow] = field(default_factory=list)
