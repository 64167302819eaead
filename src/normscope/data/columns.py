"""Which columns of a Hugging Face data set are the inputs and the labels, and how their rows become arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from normscope.data.images import Encoded, decode
from normscope.data.source import Source, Table, Values, require

_LABEL_NAMES = ("label", "labels", "target", "targets", "class", "y")
_ROWS_AT_ONCE = 1024


def as_source(splits: Any, image_size: int | None = None) -> Source:
    """See a `DatasetDict` as a `Source`: find the columns by their types, check every label, read nothing else.

    The inputs are the one Image column, else all numeric columns, scalars and lists of one length, side by side. The
    labels are the ClassLabel column (of several, the one with the most classes), else an integer column called label,
    target, class or y, else the only integer column; a plain integer's classes are its distinct values in train.
    `image_size` resizes images, as `decode` says.

    Raises:
        ValueError: no train split, an empty split, no usable column, missing or unknown labels, a single class.
    """
    if "train" not in splits:
        raise ValueError(f"there is no train split, only {', '.join(splits)}. Rename one to train.")
    for split, rows in splits.items():
        if len(rows) == 0:
            raise ValueError(f"split {split} has no rows. Fill it or remove it.")
    features = splits["train"].features
    label, note = label_column(features)
    reader = _reader(features, label, image_size)
    codes, classes = _codes(splits["train"], label)
    tables = {
        split: Table(_labels(rows, split, label, codes), partial(reader, rows.with_format("arrow")))
        for split, rows in splits.items()
    }
    if len(torch.unique(tables["train"].labels)) < 2:
        raise ValueError("all training examples have the same label. A classification problem has at least two.")
    return Source(classes, tables, note)


def label_column(features: Any) -> tuple[str, str]:
    """The column of the labels, and what to note; ValueError where there is none."""
    datasets = require("datasets")
    named = {column: kind for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    if named:
        label = max(named, key=lambda column: named[column].num_classes)
        return label, f"of the label columns {', '.join(named)}, {label} was used" if len(named) > 1 else ""
    integers = [column for column, kind in features.items() if _is_number(kind, "int", "uint")]
    known = [column for column in integers if column.lower() in _LABEL_NAMES]
    if known or len(integers) == 1:
        return (known or integers)[0], ""
    raise ValueError(
        f"no label column among {_listed(features)}. Cast one to ClassLabel, or call an integer column label."
    )


def image_column(features: Any) -> str | None:
    """The column of the images, if there is one; ValueError where there are more."""
    datasets = require("datasets")
    images = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if len(images) > 1:
        raise ValueError(f"more than one image column: {', '.join(images)}. Remove all but one.")
    return images[0] if images else None


def _reader(features: Any, label: str, image_size: int | None) -> Callable[[Any, Tensor], Values]:
    if image := image_column(features):
        return partial(_read_images, image, image_size)
    if image_size is not None:
        raise ValueError(f"image_size is for images, and there are none among {_listed(features)}. Leave it out.")
    numeric = [
        column
        for column, kind in features.items()
        if column != label and _is_number(getattr(kind, "feature", kind), "int", "uint", "float", "bool")
    ]
    if not numeric:
        raise ValueError(
            f"no image or numeric column among {_listed(features)}. Add one to learn from, "
            "or give sequence_length to read a text."
        )
    return partial(_read_features, numeric)


def _read_images(column: str, image_size: int | None, rows: Any, numbers: Tensor) -> Values:
    def encoded() -> Iterator[Encoded]:
        for some in torch.split(numbers, _ROWS_AT_ONCE):
            yield from rows[some.tolist()].column(column).to_pylist()

    return decode(encoded(), numbers.tolist(), image_size)


def _read_features(columns: list[str], rows: Any, numbers: Tensor) -> Values:
    table = rows[numbers.tolist()]
    values = np.concatenate([_as_matrix(table.column(column), column) for column in columns], axis=1)
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(values)} rows hold a missing, NaN or infinite feature. Drop or fill those rows."
        )
    return values


def _as_matrix(column: Any, name: str) -> npt.NDArray[np.float64]:
    """One numeric column as (n, 1), or a column of lists of F numbers as (n, F); what is missing becomes NaN."""
    n = len(column)
    if hasattr(column.type, "value_type"):
        lengths = {None if row is None else len(row) for row in column.to_pylist()}
        if len(lengths) > 1 or None in lengths:
            raise ValueError(f"the lists of column {name} differ in length. Pad or cut them to one length.")
        column = require("pyarrow").chunked_array([chunk.flatten() for chunk in column.chunks])
    flat: npt.NDArray[np.float64] = column.cast("float64", safe=False).to_numpy()
    return flat.reshape(n, -1)


def _codes(rows: Any, label: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """The stored value of each class, ascending, and the classes' names."""
    kind = rows.features[label]
    if hasattr(kind, "names"):
        return np.arange(kind.num_classes), tuple(kind.names)
    codes = np.unique(_stored(rows, "train", label))
    return codes, tuple(str(code) for code in codes)


def _labels(rows: Any, split: str, label: str, codes: npt.NDArray[np.int64]) -> Tensor:
    stored = _stored(rows, split, label)
    unknown = np.setdiff1d(stored, codes)
    if unknown.size:
        raise ValueError(
            f"column {label} of split {split} holds {unknown[0]}, which is none of the {len(codes)} classes "
            f"({codes[0]} to {codes[-1]}). Relabel or drop such rows; remove a split without labels."
        )
    return torch.from_numpy(np.searchsorted(codes, stored))


def _stored(rows: Any, split: str, label: str) -> npt.NDArray[np.int64]:
    if label not in rows.features:
        raise ValueError(f"split {split} has no column {label}, which train has. Give every split the same columns.")
    column = rows.select_columns([label]).with_format("arrow")[:].column(label)
    if column.null_count:
        raise ValueError(f"column {label} of split {split} misses {column.null_count} labels. Drop those rows.")
    values: npt.NDArray[np.int64] = column.cast("int64").to_numpy()
    return values


def _is_number(kind: Any, *prefixes: str) -> bool:
    return str(getattr(kind, "dtype", "")).startswith(prefixes) and type(kind).__name__ == "Value"


def _listed(features: Any) -> str:
    return ", ".join(f"{column} ({getattr(kind, 'dtype', type(kind).__name__)})" for column, kind in features.items())
