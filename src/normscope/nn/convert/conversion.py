"""Replace the normalizers of a model: find, run, plan, and then change everything in one go, or nothing."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from normscope.nn.convert.changes import ConvertedSite, Plan
from normscope.nn.convert.choice import To, check_to
from normscope.nn.convert.plan import Filter, make_plan
from normscope.nn.convert.report import ConversionRow, table
from normscope.nn.convert.running import arguments, isolated, one_line
from normscope.nn.convert.snapshot import FUSED_OFF, Snapshot
from normscope.nn.convert.survey import Survey, survey
from normscope.nn.convert.trace import trace

_FUSED_HOSTS = (nn.TransformerEncoderLayer, nn.TransformerEncoder)


class ConversionRefusedError(ValueError):
    """Something cannot be converted; the model is unchanged. `rows` say what, each with its reason."""

    def __init__(self, rows: tuple[ConversionRow, ...]) -> None:
        self.rows = rows
        reasons = "; ".join(f"{row.name or 'the model'} ({row.from_}): {row.refused}" for row in rows[:5])
        more = f"; and {len(rows) - 5} more" if len(rows) > 5 else ""
        super().__init__(f"convert_norm leaves the model unchanged, because it cannot convert {reasons}{more}.")


@final
class Conversion:
    """What `convert_norm` did, as a table, and the way back.

    Attributes:
        model: the converted model; after `revert` the model as it was.
        rows: one for every norm, affine layer that a row changed, and function that normalizes without a module.
        sites: the places of normalization, in execution order where example inputs were given.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: tuple[ConversionRow, ...],
        sites: tuple[ConvertedSite, ...],
        snapshot: Snapshot,
    ) -> None:
        self.model = model
        self.rows = rows
        self.sites = sites
        self._snapshot = snapshot

    def revert(self) -> nn.Module:
        """Bring the model back bit for bit, as it was when it was converted, training since then included.

        Its modules, parameters and buffers are the same objects with the same values and modes.
        """
        self._snapshot.restore()
        self.model = self._snapshot.model
        return self.model

    def __str__(self) -> str:
        return table(self.rows) if self.rows else "no norm modules were found"

    def __repr__(self) -> str:
        return f"Conversion of {type(self.model).__name__}, {len(self.sites)} sites"


def convert_norm(
    model: nn.Module, to: To, *, example_inputs: Any = None, filter_fn: Filter | None = None
) -> Conversion:
    """Replace the normalizers of any model by those of the table, in place.

    Every norm that is found (torch's, torchvision's, timm's, Hugging Face's, registered ones) is replaced by the
    row's site, and every affine layer by the row's affine where the row wants one, except squeeze-and-excite gates. A
    norm that stands before its affine layers gets the order "norm_affine". Gain, shift and running statistics (as far
    as the new site has them), device, dtype, requires_grad, mode, hooks, ties and shared modules are kept, and what
    was fused with a norm runs after the site; the table says what is lost. Nothing is changed if anything is refused.

    Args:
        model: any module; it is changed itself. Only where it is a norm itself is `.model` another module.
        to: the row or its name; or a mapping from names or classes of norms, or a function (name, module), to a row, a
            name, or None to leave that norm. A row is used as it is; a name also takes over eps, momentum, number of
            groups and having a gain and shift from the old norm, and its statistic of each position on images.
        example_inputs: one call's arguments: a tensor, a tuple of positional or a mapping of keyword arguments. The
            model is run on them, without a trace left, to find which layers belong to which norm, and once more when
            converted. Rows that change affine layers need them. A padding mask among them counts as how it is used.
        filter_fn: (name, module) -> whether this norm or affine layer may be changed. The default leaves out
            squeeze-and-excite gates; a function of one's own decides on these as well.

    `none` in eval mode folds batch norms into the layers before them, as far as they directly follow one.

    Raises:
        TypeError: `model` is no module, or `to` is no choice.
        ValueError: an unknown row, a key of the mapping that meets no norm, or inputs that the model does not take.
        ConversionRefusedError: a ValueError that names what cannot be converted, with the reason and the remedy.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert_norm takes an nn.Module, got {type(model).__name__}; pass the model itself.")
    _refuse_unready(model)
    found = survey(model)
    check_to(to, {m: found.names[m] for m in (*found.norms, *found.unreadable)})
    snapshot = Snapshot.of(model)
    graph = None
    if example_inputs is not None:
        kinds = {**dict.fromkeys(found.affines, "affine"), **dict.fromkeys(found.norms, "norm")}
        kinds.update((norm, "affine") for norm, r in found.norms.items() if r.known.statistic == "weight")
        graph = trace(model, example_inputs, kinds, snapshot)
    plan = make_plan(model, found, to, graph, filter_fn)
    if plan.refused:
        raise ConversionRefusedError(tuple(plan.refused))
    converted = _apply(model, found, plan)
    if example_inputs is not None and plan.replace:
        _check_that_it_runs(converted, example_inputs, plan, found, snapshot)
    return Conversion(converted, tuple(plan.rows), tuple(plan.sites), snapshot)


def _refuse_unready(model: nn.Module) -> None:
    unready = {}
    if isinstance(model, torch.jit.ScriptModule):
        unready[""] = "a scripted module is compiled; convert the model before it is scripted"
    for name, parameter in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(parameter):
            unready[name.rpartition(".")[0]] = "it is not initialised yet; run the model once before it is converted"
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    rows = tuple(
        ConversionRow(name=name, kind="norm", from_=kinds[name], refused=reason) for name, reason in unready.items()
    )
    if rows:
        raise ConversionRefusedError(rows)


def _apply(model: nn.Module, found: Survey, plan: Plan) -> nn.Module:
    """Put the new modules in wherever the old ones are held."""
    hosts = [host for host in found.names if isinstance(host, _FUSED_HOSTS) and _holds(host, plan)]
    for parent in (*found.names, *plan.replace.values()):
        for key, child in parent._modules.items():
            if child in plan.replace and plan.replace[child] is not parent:
                parent._modules[key] = plan.replace[child]
    for host in hosts:  # they read the parameters of norms and projections in one fused kernel unless told not to
        for name, value in FUSED_OFF.items():
            if name in vars(host):
                setattr(host, name, value)
    return plan.replace.get(model, model)


def _holds(host: nn.Module, plan: Plan) -> bool:
    return any(child in plan.replace for child in host.modules())


def _check_that_it_runs(model: nn.Module, example_inputs: Any, plan: Plan, found: Survey, original: Snapshot) -> None:
    """Run the converted model once; if it does not run, or still calls what was replaced, put everything back.

    Raises:
        ConversionRefusedError: with the reason.
    """
    refused: ConversionRow | None = None

    def refuse_call(module: nn.Module, _args: Any) -> None:
        nonlocal refused
        if module in plan.replace:  # hooks are shared with the new module, which may run
            reason = "it is held elsewhere than as a submodule, and still called; leave it out by filter_fn"
            refused = ConversionRow(name=found.name(module), kind="norm", from_=type(module).__name__, refused=reason)
            raise RuntimeError(reason)

    converted = Snapshot.of(model)
    handles = [old.register_forward_pre_hook(refuse_call) for old in plan.replace]
    error: Exception | None = None
    try:
        args, kwargs = arguments(example_inputs)
        with isolated(model, training=False):
            model(*args, **kwargs)
    except Exception as caught:
        error = caught
    finally:
        for handle in handles:
            handle.remove()
        converted.restore(everything=True)
    if error is not None:
        original.restore()
        reason = f"once converted it does not run on example_inputs: {type(error).__name__}: {one_line(error)}"
        row = refused or ConversionRow(name="", kind="norm", from_=type(original.model).__name__, refused=reason)
        raise ConversionRefusedError((row,)) from error
