"""RegNorm's penalty of every site, whether training minimizes it or not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from normscope.isolation import Mode, StandIn, copies, draw_seed
from normscope.probes.probe import Probe, check_choice, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.probes.tap import (
    TORCH_AFFINES,
    TORCH_NORMS,
    Select,
    check_select,
    is_normalizer_site,
    sites,
    tap,
    unchanged_labels,
)
from normscope.subject import Inputs, Subject

Over: TypeAlias = Literal["neuron", "channel"]


@final
@dataclass(frozen=True, kw_only=True)
class Penalty(Probe):
    r"""RegNorm's penalty of every site's normalized values, by depth: the correlation within the batch.

    .. math:: R^l = \frac{1}{n_l} \sum_i \mu_i^2, \qquad \mu_i = \frac1N \sum_n \hat z^l_{n,i}

    where :math:`\hat z` is what a site computes before its gain and shift. Where the root mean square of every example
    is 1, R is the mean cosine similarity between the examples of the batch, each with itself included: N independent
    ones give 1/N, the sampling floor that a curve of R has to be seen against, and equal ones give 1. A site that
    leaves its input as it is (the row "none"), or an affine layer read in a model without normalizers, is divided by
    the root mean square of each example first, over (C, H, W), or over C of each token.

    Gain and shift are the parameters `weight` and `bias` of the site, and of the modules that it is made of, affine
    layers among them excepted. A site that has them under other names is read behind them. Whatever else `select`
    chooses is read as it is.

    Args:
        over: batch means per "neuron", over N, or per "channel", over N and all positions.
        unbiased: subtract the floor: (N R - 1) / (N - 1), NaN for a mean of one value.
        select: the sites, see `tap.sites`.
        mode: "train" or "eval".

    Returns:
        Reading "penalty", axes ("layer",) in order of execution, standard errors over batches. One forward pass per
        batch, in which every site is computed twice; no graph.

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Figure App.11 and equation 3, whose
    formula is lost in the copies at hand: form A of `normscope.nn.functional.regnorm_penalty`, a reconstruction.
    """

    over: Over = "neuron"
    unbiased: bool = False
    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_choice("over", self.over, get_args(Over))
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Nothing: sites are looked for when it runs."""
        return frozenset()

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        labels: tuple[str, ...] | None = None
        samples = []
        for inputs, _ in subject.batches():
            penalties = self._penalties(stand_in, inputs, seed=draw_seed(generator))
            labels = unchanged_labels(labels, penalties)
            samples.append(torch.stack(list(penalties.values())))
        values, stderr = mean_over_batches(samples)
        return Reading(
            name="penalty", unit="1", axes=("layer",), values=values, stderr=stderr, labels={"layer": labels or ()}
        )

    def _penalties(self, stand_in: StandIn, inputs: Inputs, *, seed: int) -> dict[str, Tensor]:
        """R of every site of one batch, by label."""
        chosen = sites(stand_in.subject.model, self.select)
        # Sites that have not returned yet, with R where it is known.
        entered: list[tuple[nn.Module, Tensor | None]] = []
        penalties: dict[str, Tensor] = {}

        def enter(site: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # Now and not when it returns: the site may write to its input.
            normalizes = is_normalizer_site(site) or isinstance(site, TORCH_NORMS)
            entered.append((site, self._of_site(site, args, kwargs) if normalizes else None))

        def leave(label: str, output: Tensor) -> None:
            if self.select == "last":
                penalties.clear()
            site, value = entered.pop()
            raw = isinstance(site, TORCH_AFFINES)
            penalties[label] = self._penalty(output, _channel_axis(site, output.ndim), raw) if value is None else value

        with _entering(chosen, enter), tap(chosen, leave):
            stand_in.forward(inputs, seed=seed)
        return penalties

    def _of_site(self, site: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        z = _normalized(site, copies(args), copies(kwargs))
        if not isinstance(z, Tensor) or not z.is_floating_point():
            return None  # the tap refuses the output, and names the site
        raw = bool(args) and _same(z, args[0])
        return self._penalty(z, _channel_axis(site, z.ndim), raw)

    def _penalty(self, z: Tensor, channel_axis: int, raw: bool) -> Tensor:
        """R of values with this axis of channels, which nothing has normalized if `raw`."""
        if raw:
            z = _unit_root_mean_square(z, (1, 2, 3) if z.ndim == 4 else (channel_axis,))
        over = (0,) if self.over == "neuron" else tuple(d for d in range(z.ndim) if d != channel_axis)
        means = z.to(torch.promote_types(z.dtype, torch.float32)).mean(over).double()
        value = means.square().mean()
        count = z.numel() / means.numel()  # values in each mean
        if not self.unbiased:
            return value
        return (count * value - 1) / (count - 1) if count > 1 else torch.full_like(value, torch.nan)


def _normalized(site: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the site makes of a call without gain and shift, its hooks and running statistics left alone."""
    tensors = {name: buffer.detach().clone() for name, buffer in site.named_buffers()}
    for prefix, module in site.named_modules():
        if not isinstance(module, TORCH_AFFINES):
            for name, neutral in (("weight", torch.ones_like), ("bias", torch.zeros_like)):
                parameter = module._parameters.get(name)
                if parameter is not None:
                    tensors[f"{prefix}.{name}" if prefix else name] = neutral(parameter, requires_grad=False)
    swapped = {f"site.{name}": tensor for name, tensor in tensors.items()}
    return functional_call(_Unhooked(site), swapped, args, dict(kwargs))


class _Unhooked(nn.Module):
    """Calls a module's forward without its hooks, of which the taps are one."""

    def __init__(self, site: nn.Module) -> None:
        super().__init__()
        self.site = site

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.site.forward(*args, **kwargs)


@contextlib.contextmanager
def _entering(modules: Mapping[str, nn.Module], visit: Callable[..., None]) -> Iterator[None]:
    """Call `visit(module, args, kwargs)` each time one of `modules` is about to run."""
    with contextlib.ExitStack() as stack:
        for module in modules.values():
            stack.callback(module.register_forward_pre_hook(visit, with_kwargs=True).remove)
        yield


def _same(z: Tensor, x: Any) -> bool:
    return isinstance(x, Tensor) and z.shape == x.shape and z.dtype == x.dtype and torch.equal(z, x)


def _unit_root_mean_square(z: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The values divided by their root mean square over `dims`; zeros stay zeros."""
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    scale = wide.square().mean(dims, keepdim=True).sqrt()
    return wide / scale.where(scale != 0, 1)


def _channel_axis(site: nn.Module, ndim: int) -> int:
    """The axis of the channels: as the site says or its class tells, else 1 of images and the last of anything else."""
    declared = getattr(site, "channel_dim", None)
    if isinstance(declared, int):
        return declared % ndim
    if ndim == 4 and not isinstance(site, nn.LayerNorm | nn.RMSNorm | nn.Linear):
        return 1
    return 1 if isinstance(site, _NormBase | nn.GroupNorm | _ConvNd) else ndim - 1
