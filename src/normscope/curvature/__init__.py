"""Curvature of a model's loss: Hessian and generalised Gauss-Newton matrices by their products."""

from normscope.curvature.assembly import OperatorReport
from normscope.curvature.check import Check
from normscope.curvature.machinery import MACHINERIES, Machinery
from normscope.curvature.operators import CurvatureOperator, GGNOperator, HessianOperator
from normscope.curvature.regularizers import weight_decay

__all__ = [
    "MACHINERIES",
    "Check",
    "CurvatureOperator",
    "GGNOperator",
    "HessianOperator",
    "Machinery",
    "OperatorReport",
    "weight_decay",
]
