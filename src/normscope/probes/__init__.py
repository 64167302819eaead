"""Measurements of any `nn.Module` that leave it untouched."""

from normscope.probes.accuracy import BatchSizeAccuracy
from normscope.probes.channels import ChannelMoments, ChannelMomentsAlongStep
from normscope.probes.covariate_shift import CovariateShift
from normscope.probes.curvature import Sharpness, SpectralDensity
from normscope.probes.dependence import BatchDependence, TrainEvalGap
from normscope.probes.gradient_histogram import GradientHistogram
from normscope.probes.gradient_noise import GradientNoise
from normscope.probes.gradient_sums import GradientSums
from normscope.probes.gradients import GradientCorrelation, GradientNorm
from normscope.probes.isometry import IsometryGap, WeightOrthogonality
from normscope.probes.logits import LogitGradients
from normscope.probes.moments import Moments
from normscope.probes.penalty import Penalty
from normscope.probes.probe import Probe
from normscope.probes.propagation import InformationPropagation
from normscope.probes.rank import BatchRank
from normscope.probes.reading import Reading
from normscope.probes.step import LossAlongGradient, RelativeLoss
from normscope.probes.weight_gradients import ExplosionRate, GradientSymmetry, WeightGradientNorm
from normscope.subject import Subject

__all__ = [
    "BatchDependence",
    "BatchRank",
    "BatchSizeAccuracy",
    "ChannelMoments",
    "ChannelMomentsAlongStep",
    "CovariateShift",
    "ExplosionRate",
    "GradientCorrelation",
    "GradientHistogram",
    "GradientNoise",
    "GradientNorm",
    "GradientSums",
    "GradientSymmetry",
    "InformationPropagation",
    "IsometryGap",
    "LogitGradients",
    "LossAlongGradient",
    "Moments",
    "Penalty",
    "Probe",
    "Reading",
    "RelativeLoss",
    "Sharpness",
    "SpectralDensity",
    "Subject",
    "TrainEvalGap",
    "WeightGradientNorm",
    "WeightOrthogonality",
]
