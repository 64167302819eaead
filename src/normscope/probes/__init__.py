"""Measurements of any `nn.Module` that leave it untouched."""

from normscope.probes.accuracy import BatchSizeAccuracy
from normscope.probes.curvature import Sharpness, SpectralDensity
from normscope.probes.dependence import BatchDependence, TrainEvalGap
from normscope.probes.gradients import GradientCorrelation, GradientNorm
from normscope.probes.penalty import Penalty
from normscope.probes.probe import Probe
from normscope.probes.propagation import InformationPropagation
from normscope.probes.reading import Reading
from normscope.subject import Subject

__all__ = [
    "BatchDependence",
    "BatchSizeAccuracy",
    "GradientCorrelation",
    "GradientNorm",
    "InformationPropagation",
    "Penalty",
    "Probe",
    "Reading",
    "Sharpness",
    "SpectralDensity",
    "Subject",
    "TrainEvalGap",
]
