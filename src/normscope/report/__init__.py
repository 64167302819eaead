"""Records in, figures and pages out. Reads run folders through `normscope.study` and imports no torch."""

from __future__ import annotations

from normscope.report import summary
from normscope.report.curvature import spectral_densities
from normscope.report.curves import ABOUT_LOG_STEPS, LOG_STEP, bands, figure_of, lines
from normscope.report.folder import write
from normscope.report.paper_page import write_papers
from normscope.report.specification import Axis, Figure, HeatMap, LineFigure, Panel, Raster, RasterFigure, Series
from normscope.report.tables import Table, short

__all__ = [
    "ABOUT_LOG_STEPS",
    "LOG_STEP",
    "Axis",
    "Figure",
    "HeatMap",
    "LineFigure",
    "Panel",
    "Raster",
    "RasterFigure",
    "Series",
    "Table",
    "bands",
    "figure_of",
    "lines",
    "short",
    "spectral_densities",
    "summary",
    "write",
    "write_papers",
]
