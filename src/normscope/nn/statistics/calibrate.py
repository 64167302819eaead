"""Weights and biases of a converted model's sites, so that each site's channels are moved and scaled as before."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normscope.nn.convert.reading import read
from normscope.nn.statistics.affine import EffectOfBias, set_affine
from normscope.nn.statistics.moments import ChannelMoments, exact
from normscope.nn.statistics.passes import Forward, hooks, run, undisturbed, write
from normscope.nn.statistics.recalibrate import keeps_statistics, recalibrate

if TYPE_CHECKING:
    from normscope.nn.convert import Conversion


@final
@dataclass(frozen=True, slots=True, eq=False)
class SiteMoments:
    """The channels that leave one place, over the loader.

    Attributes:
        name: of the site, in the model.
        old: moments in the model before conversion: the target.
        before: moments in the converted model, before calibration.
        after: moments when all sites were calibrated.
        reason: why this site was not calibrated, or None.
    """

    name: str
    old: ChannelMoments
    before: ChannelMoments
    after: ChannelMoments
    reason: str | None


@final
@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What `calibrate` did.

    Attributes:
        sites: in execution order.
        not_reached: names of sites that no batch reached; they are as they were.
    """

    sites: tuple[SiteMoments, ...]
    not_reached: tuple[str, ...]

    @property
    def not_calibrated(self) -> tuple[SiteMoments, ...]:
        """The sites whose weight and bias were left, each with its reason."""
        return tuple(site for site in self.sites if site.reason is not None)

    def __str__(self) -> str:
        width = max([len(site.name) for site in self.sites] + [4])
        lines = [f"{'site':<{width}}  means off     deviations off"]
        for site in self.sites:
            (mean0, std0), (mean1, std1) = off(site.before, site.old), off(site.after, site.old)
            line = f"{site.name:<{width}}  {mean0:5.2f} -> {mean1:4.2f} {std0:5.2f} -> {std1:4.2f}"
            lines.append(line + (f"   {site.reason}" if site.reason else ""))
        return "\n".join([*lines, *(f"{name:<{width}}  no batch reached it" for name in self.not_reached)])


def off(found: ChannelMoments, target: ChannelMoments) -> tuple[float, float]:
    r"""Distance of means and of standard deviations, in units of the target's deviation: 0 where they are equal.

    .. math:: \sqrt{\textstyle\sum_c (m_c - \bar m_c)^2 / \sum_c \bar\sigma_c^2}, \qquad
        \sqrt{\textstyle\sum_c (\sigma_c - \bar\sigma_c)^2 / \sum_c \bar\sigma_c^2}
    """
    unit = target.var.sum().sqrt()
    means = (found.mean - target.mean).norm() / unit
    deviations = (found.var.sqrt() - target.var.sqrt()).norm() / unit
    return means.item(), deviations.item()


def calibrate(conversion: Conversion, loader: Iterable[Any], *, forward: Forward | None = None) -> Calibration:
    r"""Set each new site's weight and bias so that its outputs' channel moments match the old model's there.

    With :math:`z` what the site makes with weight 1 and bias 0, moments over the loader, and :math:`s_c = \pm 1` the
    sign of the weight it has,

    .. math:: w_c = s_c \sqrt{\mathrm{var}(y^{\text{old}}_c) / \mathrm{var}(z_c)}, \qquad
        b_c = \mathrm{mean}(y^{\text{old}}_c) - w_c\,\mathrm{mean}(z_c).

    Site by site in execution order, each behind those already calibrated, since earlier corrections change what later
    sites see. A channel of z that does not vary keeps its weight. A site that keeps running statistics gets them from
    the loader first, as by `recalibrate`. :math:`b_c` is divided by what a bias of 1 adds (normprop's is not 1). A site
    without both weight and bias, or whose outputs are not affine in them (frn's threshold), is left, with the reason.

    Everything runs in eval mode; modes, other parameters, hooks and the random state stay. The old model is the one
    that was converted, also if the new one was trained since: a deep copy of the conversion is reverted, `conversion`
    itself is not, and memory for that copy is needed meanwhile. The loader is read three times, and once more for each
    site (twice for one with running statistics), each time from the same global random state, so that one that
    shuffles by it gives the same batches again. A few hundred examples are enough.

    Args:
        conversion: from `convert_norm`; its model is changed.
        loader: batches, as of `recalibrate`; a list or a loader, not a generator.
        forward: ``forward(model, inputs)``, as of `recalibrate`.

    Raises:
        TypeError: the loader can be read only once.
        ValueError: no sites; an empty loader; moments that are not finite. Weights and biases are then as they were.
    """
    if isinstance(loader, Iterator):
        raise TypeError(
            f"calibrate reads its loader once for every site, but a {type(loader).__name__} can be read only once; "
            "pass a list of batches or a loader."
        )
    sites = {site.name: site.site for site in conversion.sites}
    if not sites:
        raise ValueError("calibrate sets the weights of new sites, but this conversion has none; convert a norm first.")
    over = _Over(loader, forward)
    model = conversion.model
    targets = _targets(conversion, over)
    before = over.moments(model, _placed(sites))
    reached = {name: site for name, site in sites.items() if name in targets and name in before}
    with _restored_on_error(reached.values()):
        reasons = {name: _calibrate(model, name, site, targets[name], over) for name, site in reached.items()}
        after = over.moments(model, _placed(reached))
    rows = (SiteMoments(name, targets[name], before[name], after[name], reasons[name]) for name in reached)
    return Calibration(tuple(rows), tuple(name for name in sites if name not in reached))


@dataclass(frozen=True, slots=True)
class _Over:
    """The loader, and how the model is run on it."""

    loader: Iterable[Any]
    forward: Forward | None

    def moments(self, model: nn.Module, places: Mapping[str, tuple[nn.Module, int]]) -> dict[str, ChannelMoments]:
        """Moments of what these modules normalized, in eval mode; `places` holds each with the axis of its channels.

        Of modules that ran, in the order given.
        """
        totals: dict[str, ChannelMoments] = {}

        def add(name: str, channel_dim: int, values: Tensor) -> None:
            if values.numel():
                batch = ChannelMoments.of(values, channel_dim)
                totals[name] = totals[name].merged(batch) if name in totals else batch

        watched = (_watch(module, functools.partial(add, name, dim)) for name, (module, dim) in places.items())
        with undisturbed(model), hooks(*watched):
            run(model, self.loader, self.forward, caller="calibrate")
        for name, total in totals.items():
            if not (torch.isfinite(total.mean).all() and torch.isfinite(total.var).all()):
                raise ValueError(
                    f"calibrate matches means and variances, but what leaves '{name}' is not finite; find the batch or "
                    "the layer that makes infinite values or NaN first."
                )
        return {name: totals[name] for name in places if name in totals}


def _watch(module: nn.Module, add: Callable[[Tensor], None]) -> RemovableHandle:
    """Call `add` with what the module has normalized, also where an activation is fused with it."""
    reading = None if hasattr(module, "normalizer_site") else read(module)
    if reading is not None and reading.after:
        return reading.after[0].register_forward_pre_hook(lambda _module, args: add(args[0]))
    return module.register_forward_hook(lambda _module, _args, output: add(output))


def _placed(sites: Mapping[str, nn.Module]) -> dict[str, tuple[nn.Module, int]]:
    return {name: (site, site.channel_dim) for name, site in sites.items()}  # type: ignore[misc]


def _targets(conversion: Conversion, over: _Over) -> dict[str, ChannelMoments]:
    """The moments in the model as it was before conversion."""
    old = copy.deepcopy(conversion)
    old.revert()
    return over.moments(old.model, {site.name: (site.old, site.channel_dim) for site in old.sites})


def _calibrate(model: nn.Module, name: str, site: nn.Module, target: ChannelMoments, over: _Over) -> str | None:
    """Set one site's weight and bias, and its running statistics if it keeps some; why not, where it cannot be."""
    missing = [name for name in ("weight", "bias") if getattr(site, name, None) is None]
    if missing:
        return f"has no {' and no '.join(missing)}"
    if keeps_statistics(site):
        recalibrate(model, over.loader, forward=over.forward, select=lambda _, module: module is site)
    weight, bias = exact(site.get_parameter("weight")), exact(site.get_parameter("bias"))
    effect = EffectOfBias()
    with hooks(site.register_forward_hook(effect.measure)):
        set_affine(site, 1.0, 0.0)
        plain = over.moments(model, _placed({name: site}))[name]
    if math.isnan(effect.value):
        set_affine(site, weight, bias)
        return "its outputs are not affine in its weight and bias"
    weight, shift = _matched(plain, target, weight)
    set_affine(site, weight, shift / effect.value)
    return None


def _matched(plain: ChannelMoments, target: ChannelMoments, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weight and shift that give `plain` the target's moments; `weight` gives the signs."""
    sign = torch.where(weight < 0, -1.0, 1.0)
    # What rounding leaves of a constant channel is no variance: it would be amplified without bound.
    varies = plain.var > 1e-12 * plain.mean.square()
    scale = torch.where(varies, (target.var / plain.var.where(varies, 1.0)).sqrt(), weight.abs())
    return sign * scale, target.mean - sign * scale * plain.mean


@contextlib.contextmanager
def _restored_on_error(sites: Iterable[nn.Module]) -> Iterator[None]:
    """Put back parameters and buffers of the sites if anything goes wrong."""
    saved = [(tensor, tensor.detach().clone()) for site in sites for tensor in (*site.parameters(), *site.buffers())]
    try:
        yield
    except BaseException:
        for tensor, value in saved:
            write(tensor, value)
        raise
