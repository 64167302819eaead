"""What every kind of data set looks like before a row of it is read, and the two that are built in."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# (n, H, W, C) uint8 pixels, or (n, F) float64 features
Values = npt.NDArray[np.uint8] | npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """One stored split: every row's label, and the rows themselves on demand, because decoding images is the cost.

    Attributes:
        labels: (N,) int64, each in 0 ... number of classes - 1.
        read: row numbers (n,) -> the values of those rows, in that order.
    """

    labels: Tensor
    read: Callable[[Tensor], Values]


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it is stored: its splits by their stored names ("train" is one of them)."""

    classes: tuple[str, ...]
    tables: Mapping[str, Table]
    note: str = ""


def digits() -> Source:
    """Read scikit-learn's digits: 1,797 grey 8x8 images of handwritten digits, values 0 to 16, one split.

    Reference: Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits".
    """
    bunch = require("sklearn.datasets").load_digits()
    pixels: npt.NDArray[np.uint8] = bunch.images.astype(np.uint8)[..., None]
    table = Table(torch.as_tensor(bunch.target, dtype=torch.int64), lambda rows: pixels[rows.numpy()])
    return Source(tuple(str(name) for name in bunch.target_names), {"train": table})


def declaration() -> list[str]:
    """Read the unanimous Declaration of the thirteen united States of America, 1776: 40 paragraphs, one split.

    In the public domain. Spelled as on the engrossed parchment, without its dashes and signatures: 8,000 characters, a
    text to try a language model on, and too short to learn from.
    """
    return (Path(__file__).parent / "declaration.txt").read_text(encoding="utf-8").splitlines()


def require(module: str) -> ModuleType:
    """Import a module of the `study` extra, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Loading this data set needs {error.name}, which is not installed. Run: pip install 'normscope[study]'"
        ) from error
