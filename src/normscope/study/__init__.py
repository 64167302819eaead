"""Recipe, run, record: what is asked, how it is run, and what it leaves behind.

Nothing heavy is imported before a comparison is begun: a finished one is checked and read without torch.
"""

from normscope.study.compare import Event, Failed, Finished, Planned, Reporting, Started, TrialsFailedError, compare
from normscope.study.engine import Engine, InlineEngine
from normscope.study.local_engine import LocalEngine
from normscope.study.plan import Trial
from normscope.study.recipe import Norm, Options, Recipe
from normscope.study.records import COLUMNS, load

__all__ = [
    "COLUMNS",
    "Engine",
    "Event",
    "Failed",
    "Finished",
    "InlineEngine",
    "LocalEngine",
    "Norm",
    "Options",
    "Planned",
    "Recipe",
    "Reporting",
    "Started",
    "Trial",
    "TrialsFailedError",
    "compare",
    "load",
]
