"""Badge on half precision: the float64 answer up to the rounding of the result, for values that half cannot square."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from normscope.trust.bench import Bench
from normscope.trust.outcome import Badge, Finding, Outcome, judged
from normscope.trust.specimen import FEATURES, LAYOUTS, Layout, Row, draw, layouts_taken, site

# In units of the dtype's eps: the result's own rounding is half a unit, that of a sum's terms no more than a few.
_BOUND = 4.0
_LARGE = 3e4  # its square overflows float16 a ten-thousandfold
_TINY = 1e-3  # its square is a float16 of one digit


def _inputs(layout: Layout, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Inputs that go wrong when statistics are taken in the input's dtype."""
    shape = layout.out
    uniform = draw(shape, 7, device=device).erf()  # within -1 and 1
    yield f"values up to {_LARGE:g}", (_LARGE * uniform).to(dtype)
    yield f"a spread of {_TINY:g}", draw(shape, 7, device=device, dtype=dtype, spread=_TINY)
    mean = 0.25 / torch.finfo(dtype).eps  # the numbers of the dtype are a quarter apart there
    yield f"a spread of 1 about {mean:g}", draw(shape, 7, device=device, dtype=dtype, mean=mean)


def _in_units(got: Tensor, exact: Tensor, *, scale: Tensor) -> float:
    """The largest error in units of eps of `scale`; overflow is right where the exact answer, rounded, overflows."""
    want = exact.to(got.dtype)
    wrong = got != want  # what is the same, infinities too, has no error
    if not wrong.any():
        return 0.0
    error = (got.double() - exact).abs() / (torch.finfo(got.dtype).eps * scale)
    return float(error[wrong].nan_to_num(torch.inf, torch.inf).max())


def _sites(row: Row, bench: Bench, dtype: torch.dtype) -> Iterator[Finding]:
    for layout in layouts_taken(row, device=bench.device):
        for parameters in (torch.float32, dtype):
            # Both start from the same parameters, which the narrow dtype holds.
            narrow = site(row, layout, device=bench.device, dtype=dtype).to(parameters)
            for what, x in _inputs(layout, dtype, bench.device):
                exact = copy.deepcopy(narrow).double()(x.double())
                value = _in_units(copy.deepcopy(narrow)(x), exact, scale=exact.abs().clamp(min=1.0))
                yield Finding(value, f"{what}, {layout.name}, {dtype}, parameters in {parameters}")


def _layers(row: Row, bench: Bench, dtype: torch.dtype) -> Iterator[Finding]:
    """The affine layer alone, since a row may center its input or normalize its weight."""
    layout = LAYOUTS[0]
    mean = 0.25 / torch.finfo(dtype).eps
    for what, spread, shift in (("weights of 1e-4", 1e-4, 0.0), ("weights of 300", 300.0, 0.0), ("a mean", 0.5, mean)):
        layer = layout.layer()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(draw(tuple(parameter.shape), 9, device=torch.device("cpu"), spread=spread))
        narrow = layer.to(bench.device, dtype)
        x = draw(layout.into, 7, device=bench.device, dtype=dtype, mean=shift)
        exact = _affine(row, copy.deepcopy(narrow).double(), x.double())
        value = _in_units(_affine(row, narrow, x), exact, scale=exact.abs().max())
        yield Finding(value, f"affine layer with {what}, {dtype}")


def _affine(row: Row, layer: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = row.affine(layer)(x)
    assert y.shape[-1] == FEATURES
    return y


def _half(row: Row, bench: Bench) -> Outcome:
    def findings() -> Iterator[Finding]:
        for dtype in (torch.float16, torch.bfloat16):
            yield from _sites(row, bench, dtype)
            yield from _layers(row, bench, dtype)

    with torch.no_grad():
        return judged(findings(), _BOUND)


HALF = Badge(
    name="fp16/bf16",
    says="no overflow for large values, no collapse for small spreads: the float64 answer within 4 units of eps",
    check=_half,
)
