"""Networks with the normalizer injected: one file per family, none of them imports `normscope.nn`."""

from normscope.models.mlp import MLP
from normscope.models.protocol import NormalizerLike, as_normalizer
from normscope.models.wideresnet import WideResNet

__all__ = ["MLP", "NormalizerLike", "WideResNet", "as_normalizer"]
