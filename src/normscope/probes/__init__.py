"""Measurements of any `nn.Module` that leave it untouched."""

from normscope.probes.curvature import Sharpness, SpectralDensity
from normscope.probes.gradients import GradientCorrelation, GradientNorm
from normscope.probes.probe import Probe
from normscope.probes.propagation import InformationPropagation
from normscope.probes.reading import Reading
from normscope.subject import Subject

__all__ = [
    "GradientCorrelation",
    "GradientNorm",
    "InformationPropagation",
    "Probe",
    "Reading",
    "Sharpness",
    "SpectralDensity",
    "Subject",
]
