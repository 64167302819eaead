"""Statistics of channels over a loader: running statistics anew, and sites calibrated to what stood there before."""

from normscope.nn.statistics.calibrate import Calibration, SiteMoments, calibrate
from normscope.nn.statistics.moments import ChannelMoments
from normscope.nn.statistics.recalibrate import Recalibration, RunningStatistics, recalibrate

__all__ = [
    "Calibration",
    "ChannelMoments",
    "Recalibration",
    "RunningStatistics",
    "SiteMoments",
    "calibrate",
    "recalibrate",
]
