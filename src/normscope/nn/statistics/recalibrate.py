"""Running statistics anew, as exact averages over a loader."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from normscope.nn.statistics.moments import ChannelMoments, exact
from normscope.nn.statistics.passes import Forward, hooks, run, undisturbed, write

Select = Callable[[str, nn.Module], bool]

# What a module may keep of the spread of its channels: as the second moment it stands for, and back.
_SPREADS: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = MappingProxyType(
    {
        "running_var": (torch.clone, torch.clone),
        "running_std": (torch.square, torch.sqrt),
        "running_quadratic_mean": (torch.clone, torch.clone),
    }
)
_STATISTICS = ("running_mean", *_SPREADS)
# Rows' own options: for so many batches they divide by the batch's statistics, and by the running ones afterwards.
_SCHEDULES = frozenset({"start", "warmup"})


@final
@dataclass(frozen=True, slots=True, eq=False)
class RunningStatistics:
    """What `recalibrate` wrote into one module.

    Attributes:
        name: the module's, in the model.
        calls: how often it ran.
        count: values of each channel that the statistics are of.
        values: (C,) each, by the name of the buffer: running_mean, running_var and the like.
    """

    name: str
    calls: int
    count: int
    values: Mapping[str, Tensor]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Recalibration:
    """What `recalibrate` did.

    Attributes:
        modules: those with new statistics, in the model's order.
        not_reached: names of those that no batch reached; they are as they were.
        batches: how many the loader gave.
    """

    modules: tuple[RunningStatistics, ...]
    not_reached: tuple[str, ...]
    batches: int

    def __str__(self) -> str:
        text = f"{len(self.modules)} modules with new running statistics, from {self.batches} batches"
        return text + (f"; not reached: {', '.join(self.not_reached)}" if self.not_reached else "")


def recalibrate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    forward: Forward | None = None,
    select: Select | None = None,
) -> Recalibration:
    r"""Recompute the running statistics of every module that keeps them, as exact averages over the loader.

    With :math:`\mu_b, \sigma_b^2` what the module takes from batch b in train mode and :math:`n_b` the values per
    channel in it, :math:`n = \sum_b n_b`, the law of total variance gives the moments of all batches together:

    .. math:: \mu = \frac1n\sum_b n_b\,\mu_b, \qquad
        \sigma^2 = \frac1n\sum_b n_b\,\bigl(\sigma_b^2 + (\mu_b - \mu)^2\bigr), \qquad
        \text{running\_var} = \frac{n}{n-1}\,\sigma^2,

    the last without the factor where the module's variance is the biased one; batchrenorm's running_std is the root of
    the second. A module that keeps no running mean (lmbv, powernorm) gets the first sum alone, of its variances or
    second moments; torch's instance norms get the plain means of both, since theirs are averages over instances.

    These modules run in train mode, so each normalizes by its batch (batchrenorm and powernorm too, as in their first
    steps) and the next one sees what it sees in training; all others run in eval mode, so dropout is off. Parameters,
    modes, hooks and the random state stay as they were; num_batches_tracked becomes the number of calls, except where
    a row's schedule counts by it.

    Args:
        model: any module. Found are its sites, torch's batch norms and whatever else has running_mean or running_var
            and a momentum in torch's sense (the weight of the new value).
        loader: batches, read once: inputs, or a tuple or list whose first member they are. They must be on the model's
            device.
        forward: ``forward(model, inputs)``; by default ``model(inputs)``, or ``model(**inputs)`` for a mapping.
        select: ``select(name, module)`` leaves out the modules it is false for; they run in eval mode.

    Raises:
        TypeError: `model` is not a module.
        ValueError: no such module; one without a size yet; an empty loader; no module was reached; statistics that are
            not finite. The model is then as it was.

    Source: Wu and Johnson 2021, arXiv:2105.07576, section 3 (PreciseBN).
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"recalibrate takes an nn.Module, got {type(model).__name__}; wrap the function in a module.")
    found = _found(model, select)
    with undisturbed(model, train=frozenset(found.values())):
        recorders = {name: _Recorder(module) for name, module in found.items()}
        with contextlib.ExitStack() as recording:
            for recorder in recorders.values():
                recording.enter_context(recorder.recording())
            batches = run(model, loader, forward, caller="recalibrate")
    written = {name: recorder.statistics(name) for name, recorder in recorders.items() if recorder.calls}
    if not written:
        raise ValueError(
            f"recalibrate reads modules that the forward runs, but no batch reached '{next(iter(found))}'; "
            "pass a forward that runs it."
        )
    for name, statistics in written.items():
        _write(found[name], statistics)
    return Recalibration(tuple(written.values()), tuple(name for name in found if name not in written), batches)


def keeps_statistics(module: nn.Module) -> bool:
    """Whether the module has running statistics, and a momentum that says they are updated."""
    kept = any(isinstance(module._buffers.get(name), Tensor) for name in _STATISTICS)
    return kept and (hasattr(module, "momentum") or hasattr(getattr(module, "row", None), "momentum"))


def _found(model: nn.Module, select: Select | None) -> dict[str, nn.Module]:
    kept = {name: module for name, module in model.named_modules() if keeps_statistics(module)}
    found = {name: module for name, module in kept.items() if select is None or select(name, module)}
    if not found:
        chosen = f"select left out {', '.join(kept)}" if kept else f"{type(model).__name__} has none"
        raise ValueError(
            f"recalibrate needs modules that keep running statistics and a momentum, but {chosen}; nothing has to be "
            "recalibrated in such a model."
        )
    for name, module in found.items():
        if any(is_lazy(buffer) for buffer in module.buffers(recurse=False)):
            raise ValueError(
                f"recalibrate needs statistics of a known size, but '{name}' ({type(module).__name__}) has none yet; "
                "run the model once first."
            )
    return found


class _Recorder:
    """What one module takes from each batch: its running statistics after a call in which the new value weighs 1."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.calls = 0
        self.size = 0  # elements of the call at hand
        self.total: ChannelMoments | None = None
        self.kept = tuple(name for name in _STATISTICS if isinstance(module._buffers.get(name), Tensor))
        self.pooled = not isinstance(module, _InstanceNorm)
        biased = getattr(getattr(module, "row", None), "running_variance", "unbiased") == "biased"
        self.unbiased = self.pooled and "running_var" in self.kept and not biased
        self._before = {name: buffer.clone() for name, buffer in module.named_buffers(recurse=False)}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record every call inside. Momentum and row are put back by `undisturbed`."""
        module: Any = self.module
        if hasattr(module, "momentum"):
            module.momentum = 1.0
        else:
            module.row = _by_its_batch(module.row)
        before = module.register_forward_pre_hook(self._reset, with_kwargs=True)
        with hooks(before, module.register_forward_hook(self._record)):
            yield

    def _reset(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin each call from one state, so that no batch sees another; 0 * nan would keep a nan."""
        for name, value in self._before.items():
            first = torch.zeros_like(value) if name == "num_batches_tracked" else value
            write(module.get_buffer(name), first.nan_to_num(0.0, 0.0, 0.0) if name in self.kept else first)
        x = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        self.size = x.numel()

    def _record(self, module: nn.Module, _args: tuple[Any, ...], _output: Any) -> None:
        if self.size == 0:  # an empty batch says nothing
            return
        values = {name: exact(module.get_buffer(name)) for name in self.kept}
        zero = torch.zeros_like(next(iter(values.values())))
        count = self.size // zero.numel()
        var = next((_SPREADS[name][0](values[name]) for name in _SPREADS if name in values), zero)
        # Without a mean of its own, or where means of instances are averaged, there is no spread of means to add.
        mean = values.get("running_mean", zero)
        batch = ChannelMoments(count, mean, var * (count - 1) / count if self.unbiased else var)
        self.calls += 1
        self.total = batch if self.total is None else self._joined(self.total, batch)

    def _joined(self, total: ChannelMoments, batch: ChannelMoments) -> ChannelMoments:
        if self.pooled:
            return total.merged(batch)
        count = total.count + batch.count
        share = batch.count / count
        return ChannelMoments(count, total.mean.lerp(batch.mean, share), total.var.lerp(batch.var, share))

    def statistics(self, name: str) -> RunningStatistics:
        """What to write into the module; ValueError if it is not finite."""
        total = self.total
        assert total is not None
        if not (torch.isfinite(total.mean).all() and torch.isfinite(total.var).all()):
            raise ValueError(
                f"recalibrate takes means and variances, but what reaches '{name}' is not finite; find the batch or "
                "the layer that makes infinite values or NaN first."
            )
        var = total.var * total.count / (total.count - 1) if self.unbiased else total.var
        values = {key: total.mean if key == "running_mean" else _SPREADS[key][1](var) for key in self.kept}
        return RunningStatistics(name, self.calls, total.count, MappingProxyType(values))


def _by_its_batch(row: Any) -> Any:
    """The row with the whole of each batch in its running statistics, and none of these in its outputs."""
    settings = tuple(
        dataclasses.replace(setting, value=max(setting.value, 1)) if setting.name in _SCHEDULES else setting
        for setting in row.settings
    )
    return dataclasses.replace(row, momentum=1.0, settings=settings)


def _write(module: nn.Module, statistics: RunningStatistics) -> None:
    """Write into the module's own buffers."""
    for name, value in statistics.values.items():
        write(module.get_buffer(name), value)
    settings = getattr(getattr(module, "row", None), "settings", ())
    tracked = getattr(module, "num_batches_tracked", None)
    if isinstance(tracked, Tensor) and not any(setting.name in _SCHEDULES for setting in settings):
        write(tracked, torch.tensor(statistics.calls))
