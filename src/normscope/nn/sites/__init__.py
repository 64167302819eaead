"""Sites of rows that are not a ratio of moments: one small class each, chosen by the row."""

from normscope.nn.sites.batch_renorm import BatchRenorm
from normscope.nn.sites.dynamic_tanh import DynamicTanh
from normscope.nn.sites.filter_response import FilterResponse
from normscope.nn.sites.norm_propagation import NormPropagation
from normscope.nn.sites.power_norm import PowerNorm

__all__ = ["BatchRenorm", "DynamicTanh", "FilterResponse", "NormPropagation", "PowerNorm"]
