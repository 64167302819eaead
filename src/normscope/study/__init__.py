"""Recipe, run, record: what is asked, how it is run, and what it leaves behind.

Nothing heavy is imported before a comparison is begun: a finished one is checked and read without torch.
"""

from normscope.study.claims import Claim, Effect, Verdict, judge, paired, value
from normscope.study.compare import Event, Failed, Finished, Planned, Reporting, Started, TrialsFailedError, compare
from normscope.study.engine import Engine, InlineEngine
from normscope.study.experiment import (
    Augment,
    Data,
    Experiment,
    Final,
    Measurement,
    Model,
    Norm,
    Optimizer,
    Schedule,
    Study,
    Switch,
    Training,
)
from normscope.study.local_engine import LocalEngine
from normscope.study.paper import Item, Paper, Published, find, papers, study_of
from normscope.study.plan import Trial
from normscope.study.recipe import Options, Recipe
from normscope.study.records import COLUMNS, load

__all__ = [
    "COLUMNS",
    "Augment",
    "Claim",
    "Data",
    "Effect",
    "Engine",
    "Event",
    "Experiment",
    "Failed",
    "Final",
    "Finished",
    "InlineEngine",
    "Item",
    "LocalEngine",
    "Measurement",
    "Model",
    "Norm",
    "Optimizer",
    "Options",
    "Paper",
    "Planned",
    "Published",
    "Recipe",
    "Reporting",
    "Schedule",
    "Started",
    "Study",
    "Switch",
    "Training",
    "Trial",
    "TrialsFailedError",
    "Verdict",
    "compare",
    "find",
    "judge",
    "load",
    "paired",
    "papers",
    "study_of",
    "value",
]
