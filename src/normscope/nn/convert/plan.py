"""What a conversion will do, decided before anything is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import nn

from normscope.nn.convert import choice as choices
from normscope.nn.convert.changes import ConvertedSite, Plan
from normscope.nn.convert.choice import RowLike, To, places
from normscope.nn.convert.graph import Graph, gates, projections
from normscope.nn.convert.making import (
    FIXED,
    Made,
    RefusedError,
    folded,
    has_activation,
    has_weight,
    is_fixed,
    make_affine,
    make_norm,
    make_scale,
)
from normscope.nn.convert.placement import Order, norms_before_affine, row_of_affine
from normscope.nn.convert.report import ConversionRow
from normscope.nn.convert.survey import Survey, already_converted

Filter: TypeAlias = Callable[[str, nn.Module], bool]


def make_plan(model: nn.Module, found: Survey, to: To, graph: Graph | None, filter_fn: Filter | None) -> Plan:
    """Decide for every norm, affine layer and functional call; nothing is changed."""
    planner = _Planner(model, found, graph, filter_fn)
    rows = planner.rows_of_norms(to)
    planner.refuse_second_rows(rows)
    needing = {norm: row for norm, row in rows.items() if row is not None and places(row)}
    if needing and graph is None:
        for norm, row in needing.items():
            planner.refuse(norm, f"{row.name} acts on affine layers, found by a run; give example_inputs", row)
        return planner.plan
    before: frozenset[nn.Module] = frozenset()
    if needing and graph is not None:
        movable = planner.affines_to_change()
        plain = [norm for norm in needing if not has_activation(found.norms[norm])]
        before = norms_before_affine(graph, plain, frozenset(movable))
        planner.plan_affines(graph, rows, before, movable)
    planner.plan_norms(rows, before)
    planner.report_others()
    return planner.plan


class _Planner:
    """Fills a plan."""

    def __init__(self, model: nn.Module, found: Survey, graph: Graph | None, filter_fn: Filter | None) -> None:
        self.model = model
        self.found = found
        self.graph = graph
        self.filter_fn = filter_fn
        self.gates = gates(graph) if graph is not None else frozenset()
        self.plan = Plan()

    def wanted(self, module: nn.Module) -> bool:
        """Whether the module may be changed: as `filter_fn` says, else all but squeeze-and-excite gates."""
        if self.filter_fn is None:
            return module not in self.gates
        return all(self.filter_fn(name, module) for name in self.found.names[module])

    def refuse(self, module: nn.Module, reason: str, row: RowLike | None = None) -> None:
        """Note that the whole conversion cannot be done, because of this module."""
        kind: Any = "affine" if module in self.found.affines else "norm"
        self.plan.refused.append(
            ConversionRow(
                name=", ".join(self.found.names[module]),
                kind=kind,
                from_=type(module).__name__,
                to="" if row is None else row.name,
                refused=reason,
            )
        )

    def note(self, module: nn.Module, kind: Any, **fields: Any) -> None:
        """Add a row to the table."""
        name = ", ".join(self.found.names[module])
        self.plan.rows.append(ConversionRow(name=name, kind=kind, from_=type(module).__name__, **fields))

    def ordered(self, modules: Any) -> list[nn.Module]:
        """Modules in execution order; those that did not run come last, in the order of their names."""
        calls = () if self.graph is None else self.graph.calls
        ran = {call.module: None for call in calls if call.module is not None}
        return [m for m in ran if m in modules] + [m for m in self.found.names if m in modules and m not in ran]

    def rows_of_norms(self, to: To) -> dict[nn.Module, RowLike | None]:
        """The row of every norm; None where it stays."""
        rows: dict[nn.Module, RowLike | None] = {}
        for norm in self.ordered({**self.found.norms, **self.found.unreadable}):
            choice = choices.chosen(to, self.found.names[norm], norm)
            if choice is None or not self.wanted(norm):
                reason = "filter_fn leaves it out" if choice is not None else "no row was chosen for it"
                self.note(norm, "norm", refused=reason)
                rows[norm] = None
            elif norm in self.found.unreadable:
                self.refuse(norm, self.found.unreadable[norm])
            else:
                reading = self.found.norms[norm]
                images = not reading.channels_last and self.ndims(norm) != {2}
                rows[norm] = choices.row_for(choice, reading, images=images)
        return rows

    def ndims(self, norm: nn.Module) -> set[int]:
        """Axes of the inputs that it got."""
        return set() if self.graph is None else {len(call.given) for call in self.graph.of(norm)}

    def refuse_second_rows(self, rows: dict[nn.Module, RowLike | None]) -> None:
        """A layer that an earlier row changed would keep that change under another row."""
        for layer in self.found.affines if any(row is not None for row in rows.values()) else ():
            if self.wanted(layer) and already_converted(layer):
                self.refuse(layer, "an earlier row changed this layer; revert that conversion first")

    def affines_to_change(self) -> list[nn.Module]:
        """Affine layers that a row may change; those that are left out are noted."""
        layers = []
        for layer in self.ordered(self.found.affines):
            if self.wanted(layer):
                layers.append(layer)
            else:
                gate = layer in self.gates and self.filter_fn is None
                self.note(layer, "affine", refused="a squeeze-and-excite gate" if gate else "filter_fn leaves it out")
        return layers

    def plan_affines(
        self, graph: Graph, rows: dict[nn.Module, RowLike | None], before: frozenset[nn.Module], layers: list[nn.Module]
    ) -> None:
        """Give every affine layer the row of its norm."""
        for layer in layers:
            row, order = row_of_affine(graph, layer, rows, before)
            if row is None:
                continue
            calls = graph.of(layer)
            groups = {projections(call, call.shape[-1]) for call in calls} if order == "norm_affine" else set()
            try:
                made = make_affine(
                    layer,
                    self.found.affines[layer],
                    row,
                    order,
                    groups=next(iter(groups)) if len(groups) == 1 else (),
                    bypassed=graph.bypassed.get(layer, ""),
                )
            except RefusedError as error:
                self.refuse(layer, str(error), row)
                continue
            self.put(layer, made, "affine", row, kept=("parameters",))

    def plan_norms(self, rows: dict[nn.Module, RowLike | None], before: frozenset[nn.Module]) -> None:
        """Make the site of every norm, or fold it into the layer before it."""
        for norm, row in rows.items():
            if row is None:
                continue
            if reason := self.masked(norm, row):
                self.refuse(norm, reason, row)
                continue
            reading = self.found.norms[norm]
            order: Order = "norm_affine" if norm in before else "affine_norm"
            try:
                if choices.is_identity(row) and not norm.training and is_fixed(reading):
                    self.plan_fixed(norm, row)
                    continue
                made = make_norm(self.model, norm, reading, row, order, self.ndims(norm))
            except RefusedError as error:
                self.refuse(norm, str(error), row)
                continue
            self.put(norm, made, "norm", row)

    def plan_fixed(self, norm: nn.Module, row: RowLike) -> None:
        """Fold a batch norm in eval mode into the layer before it, or keep what it does to each channel."""
        reading, layer = self.found.norms[norm], self.layer_to_fold(norm)
        if layer is None:
            self.put(norm, make_scale(self.model, norm, reading, row, self.ndims(norm)), "norm", row)
            return
        made = make_norm(self.model, norm, reading, row, "affine_norm", self.ndims(norm))
        self.plan.replace[layer] = folded(layer, reading)
        kept = [name for name in FIXED if getattr(reading, name) is not None]
        note = "; ".join(part for part in (f"folded into {self.found.name(layer)}", made.note) if part)
        self.put(norm, dataclasses.replace(made, kept=tuple(kept), reset=(), note=note), "norm", row)

    def put(self, old: nn.Module, made: Made, kind: Any, row: RowLike, kept: tuple[str, ...] = ()) -> None:
        """Plan one replacement, and say so."""
        self.plan.replace[old] = made.new
        if made.site is not None:
            self.plan.sites.append(ConvertedSite(self.found.name(old), old, made.new, made.site, made.channel_dim))
        ran = self.graph is None or old in self.graph.called
        remark = "; ".join(part for part in (made.note, "" if ran else "did not run") if part)
        fields = {"kept": made.kept or kept, "reset": made.reset, "note": remark}
        self.note(old, kind, to=choices.shown_options(row), **fields)

    def masked(self, norm: nn.Module, row: RowLike) -> str:
        """Why a row that couples examples cannot stand here: tokens, some of which a mask says are padding."""
        if not row.couples_batch or self.graph is None or not self.graph.masks or 3 not in self.ndims(norm):
            return ""
        module, argument = self.graph.masks[0]
        return (
            f"{row.name} takes statistics over all tokens, and {module or 'the model'} got a padding mask ({argument}) "
            "that no site sees; choose a row that does not couple examples, or give example_inputs without a mask if "
            "no batch is padded"
        )

    def layer_to_fold(self, norm: nn.Module) -> nn.Module | None:
        """The layer that an eval-mode batch norm can be folded into: it feeds the norm, and nothing else."""
        calls = () if self.graph is None else self.graph.of(norm)
        if self.graph is None or len(calls) != 1 or len(calls[0].parents) != 1:
            return None
        (source,) = calls[0].parents
        layer = source.module
        if source.kind != "affine" or layer is None or self.found.affines.get(layer) != "layer":
            return None
        alone = (
            has_weight(layer)
            and source.children == [calls[0]]
            and len(self.graph.of(layer)) == 1
            and not source.root_output
        )
        return layer if alone and layer not in self.plan.replace and self.wanted(layer) else None

    def report_others(self) -> None:
        """Say what else normalizes and is not replaced."""
        for module, reason in self.found.others.items():
            self.note(module, "norm", refused=reason)
        inside = {self.found.name(module) for module in (*self.found.others, *self.found.norms)}
        for place, name in () if self.graph is None else self.graph.functions:
            if place in inside:
                continue
            self.plan.rows.append(
                ConversionRow(
                    name=place,
                    kind="function",
                    from_=name,
                    refused="a function call, which holds no module to replace",
                )
            )
