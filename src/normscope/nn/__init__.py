"""Normalizers: the table of rows, the pure functions, the modules, the penalty; and switches that go with any."""

from normscope.nn import convert, switches
from normscope.nn.affine import affine_as_it_is
from normscope.nn.catalog import normalizer, normalizers
from normscope.nn.distributed import synchronized
from normscope.nn.normalizer import Normalizer
from normscope.nn.penalty import Penalised, penalty
from normscope.nn.plugins import External
from normscope.nn.site import Site

__all__ = [
    "External",
    "Normalizer",
    "Penalised",
    "Site",
    "affine_as_it_is",
    "convert",
    "normalizer",
    "normalizers",
    "penalty",
    "switches",
    "synchronized",
]
