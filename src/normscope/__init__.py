"""Swap the normalizer in any PyTorch network and see what that does to signal, gradients and curvature.

Every public name is listed below with the module that defines it. Nothing is imported before it is used, so that
``import normscope`` and ``normscope --help`` do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from normscope import curvature, data, linalg, models, nn, probes, report, study, theory, train
    from normscope.models.protocol import NormalizerLike, as_normalizer
    from normscope.nn.catalog import normalizer, normalizers
    from normscope.nn.convert.conversion import Conversion, convert_norm
    from normscope.nn.normalizer import Normalizer
    from normscope.nn.penalty import penalty
    from normscope.nn.statistics.calibrate import calibrate
    from normscope.nn.statistics.recalibrate import recalibrate
    from normscope.probes.reading import Reading
    from normscope.study.records import load
    from normscope.subject import Subject

_HOME = {
    "Conversion": "normscope.nn.convert.conversion",
    "Normalizer": "normscope.nn.normalizer",
    "NormalizerLike": "normscope.models.protocol",
    "Reading": "normscope.probes.reading",
    "Subject": "normscope.subject",
    "as_normalizer": "normscope.models.protocol",
    "calibrate": "normscope.nn.statistics.calibrate",
    "convert_norm": "normscope.nn.convert.conversion",
    "load": "normscope.study.records",
    "normalizer": "normscope.nn.catalog",
    "normalizers": "normscope.nn.catalog",
    "penalty": "normscope.nn.penalty",
    "recalibrate": "normscope.nn.statistics.recalibrate",
}
_ROOMS = ("curvature", "data", "linalg", "models", "nn", "probes", "report", "study", "theory", "train")

__all__ = [
    "Conversion",
    "Normalizer",
    "NormalizerLike",
    "Reading",
    "Subject",
    "__version__",
    "as_normalizer",
    "calibrate",
    "convert_norm",
    "curvature",
    "data",
    "linalg",
    "load",
    "models",
    "nn",
    "normalizer",
    "normalizers",
    "penalty",
    "probes",
    "recalibrate",
    "report",
    "study",
    "theory",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import the room that defines `name` on first use (PEP 562)."""
    if name in _ROOMS:
        return importlib.import_module(f"normscope.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'normscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
