"""Networks with the normalizer injected: one file per family, none of them imports `normscope.nn`."""

from normscope.models.building import ActivationFactory
from normscope.models.cifar_resnet import CifarResNet
from normscope.models.deep_linear import DeepLinear
from normscope.models.deep_mlp import DeepMLP
from normscope.models.families import FAMILIES, Family, family
from normscope.models.initialization import INITIALIZERS
from normscope.models.mlp import MLP
from normscope.models.protocol import NormalizerLike, as_normalizer
from normscope.models.recurrent import Recurrent
from normscope.models.resnet import ResNet
from normscope.models.sources import Built, Source, source
from normscope.models.transformer import Transformer
from normscope.models.vgg import VGG
from normscope.models.wideresnet import WideResNet

__all__ = [
    "FAMILIES",
    "INITIALIZERS",
    "MLP",
    "VGG",
    "ActivationFactory",
    "Built",
    "CifarResNet",
    "DeepLinear",
    "DeepMLP",
    "Family",
    "NormalizerLike",
    "Recurrent",
    "ResNet",
    "Source",
    "Transformer",
    "WideResNet",
    "as_normalizer",
    "family",
    "source",
]
