"""Fast paths of the sites: kernels that equal the composition of `nn.functional` in value and every derivative."""

from normscope.nn.kernels.choice import fused, of_groups, pattern_of, suits_cpu, torch_groups
from normscope.nn.kernels.pattern import Normalized, Pattern, composed

__all__ = ["Normalized", "Pattern", "composed", "fused", "of_groups", "pattern_of", "suits_cpu", "torch_groups"]
