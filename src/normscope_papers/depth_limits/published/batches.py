"""Table D1, as it is printed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from normscope.study import Effect
from normscope_papers.common.published import mean, published
from normscope_papers.depth_limits.rows import rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd


def _rank(frame: pd.DataFrame, *, name: str, **where: Any) -> Effect | None:
    return mean(name, rows_with_conditions(frame, "d1", name=name, **where))


TABLE_D1 = tuple(
    published(
        f"Table D1, rank of {size} samples",
        name,
        value,
        partial(_rank, name="raw_rank_float32", data_set=name, samples=size),
        "The paper does not say how pixels were scaled, nor whether its torch computed the rank in float32; the drop "
        "at 512 samples is a matter of the tolerance, as the rank in float64 shows.",
        uncertainty=spread,
    )
    for size, name, value, spread in (
        *(
            (size, name, float(size), None)
            for size in (16, 32, 64)
            for name in ("cifar10", "mnist", "fashion", "cifar100")
        ),
        (128, "cifar10", 127.99, 0.09),
        (128, "mnist", 128.0, None),
        (128, "fashion", 128.0, None),
        (128, "cifar100", 127.92, 0.27),
        (256, "cifar10", 221.06, None),
        (256, "mnist", 250.48, None),
        (256, "fashion", 238.19, None),
        (256, "cifar100", 218.11, None),
        (512, "cifar10", 203.70, None),
        (512, "mnist", 318.04, None),
        (512, "fashion", 275.37, None),
        (512, "cifar100", 201.51, None),
    )
) + tuple(
    published(
        "Table D1, mean cosine of 512 samples",
        name,
        value,
        partial(_rank, name="raw_cosine", data_set=name, samples=512),
        "Ours is of pixels whose channels are each divided by their deviation, which are nearly equal.",
    )
    for name, value in (("cifar10", 0.81), ("mnist", 0.40), ("fashion", 0.58), ("cifar100", 0.81))
)
