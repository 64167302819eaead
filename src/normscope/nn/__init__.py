"""Normalizers: the table of rows, the pure functions, the modules, the penalty; and switches that go with any."""

from normscope.nn import switches
from normscope.nn.catalog import normalizer, normalizers
from normscope.nn.normalizer import Normalizer
from normscope.nn.penalty import Penalised, penalty
from normscope.nn.site import Site

__all__ = ["Normalizer", "Penalised", "Site", "normalizer", "normalizers", "penalty", "switches"]
