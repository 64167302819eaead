"""Networks with the normalizer injected: one file per family, none of them imports `normscope.nn`."""

from normscope.models.building import ActivationFactory
from normscope.models.families import FAMILIES, Family, family
from normscope.models.mlp import MLP
from normscope.models.protocol import NormalizerLike, as_normalizer
from normscope.models.recurrent import Recurrent
from normscope.models.resnet import ResNet
from normscope.models.transformer import Transformer
from normscope.models.wideresnet import WideResNet

__all__ = [
    "FAMILIES",
    "MLP",
    "ActivationFactory",
    "Family",
    "NormalizerLike",
    "Recurrent",
    "ResNet",
    "Transformer",
    "WideResNet",
    "as_normalizer",
    "family",
]
