"""Records in, figures and pages out. Reads run folders through `normscope.study.records` and imports no torch."""

from __future__ import annotations

from normscope.report import summary
from normscope.report.folder import write

__all__ = ["summary", "write"]
