"""One call that swaps the normalizers of any model, the table of what it did, and the way back."""

from normscope.nn.convert.changes import ConvertedSite
from normscope.nn.convert.conversion import Conversion, ConversionRefusedError, convert_norm
from normscope.nn.convert.registry import NormClass, register
from normscope.nn.convert.report import ConversionRow

__all__ = [
    "Conversion",
    "ConversionRefusedError",
    "ConversionRow",
    "ConvertedSite",
    "NormClass",
    "convert_norm",
    "register",
]
