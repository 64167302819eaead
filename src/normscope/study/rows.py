"""The rows of a record: their columns, and their two forms, JSON lines while live and Parquet at rest."""

from __future__ import annotations

import copy
import io
import json
import math
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from normscope.study.plan import Trial

COLUMNS = (
    "run",
    "trial",
    "kind",
    "normalizer",
    "condition",
    "seed",
    "lr",
    "step",
    "probe",
    "layer",
    "depth",
    "name",
    "value",
    "stderr",
    "unit",
)
_INTEGERS = ("seed", "step", "depth")
_FLOATS = ("lr", "value", "stderr")


class Rows:
    """Collects one trial's rows in order, and appends each to a live file that a reader may follow."""

    def __init__(self, run: str, trial: Trial, live: IO[str]) -> None:
        self._constant = {
            "run": run,
            "trial": trial.id,
            "kind": trial.kind,
            "normalizer": trial.norm.label,
            "condition": trial.condition,
            "seed": trial.seed,
            "lr": math.nan if trial.lr is None else trial.lr,
        }
        self._live = live
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        probe: str,
        name: str,
        value: float,
        *,
        step: int = 0,
        layer: str = "",
        depth: int = 0,
        stderr: float = math.nan,
        unit: str = "1",
    ) -> None:
        """Record one number; `depth` is the place of `layer` from the input, counted from 1."""
        place = {"step": step, "probe": probe, "layer": layer, "depth": depth}
        row = {**self._constant, **place, "name": name, "value": value, "stderr": stderr, "unit": unit}
        self._rows.append(row)
        self._live.write(json.dumps(row) + "\n")

    def of_seed(self, seed: int) -> Rows:
        """The same collection, to which rows of another seed are added."""
        other = copy.copy(self)
        other._constant = self._constant | {"seed": seed}
        return other

    def plain(self) -> list[dict[str, Any]]:
        """Every row so far."""
        return list(self._rows)

    def restore(self, rows: list[dict[str, Any]]) -> None:
        """Begin with rows that were written before."""
        self._rows[:] = rows
        self._live.writelines(json.dumps(row) + "\n" for row in rows)

    def to_parquet(self) -> bytes:
        """Every row so far as a Parquet file; the same rows give the same bytes."""
        import pyarrow.parquet as pq

        table = _table(self._rows)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue()


def frame(parquet_files: list[bytes]) -> pd.DataFrame:
    """Rows of several Parquet files in one pandas frame: columns `COLUMNS`; str, int64 and float64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [_with_condition(pq.read_table(io.BytesIO(content))) for content in parquet_files]
    rows: pd.DataFrame = pa.concat_tables([_table([]), *tables]).to_pandas()
    return rows.astype({name: "str" for name in COLUMNS if name not in _INTEGERS + _FLOATS})


def _with_condition(table: Any) -> Any:
    """The columns in order; records from before there were conditions have none."""
    import pyarrow as pa

    if "condition" not in table.column_names:
        table = table.append_column("condition", pa.array([""] * len(table), pa.string()))
    return table.select(list(COLUMNS))


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    fields = [(name, _arrow_type(name)) for name in COLUMNS]
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in fields}, pa.schema(fields))


def _arrow_type(name: str) -> Any:
    import pyarrow as pa

    if name in _INTEGERS:
        return pa.int64()
    return pa.float64() if name in _FLOATS else pa.string()
