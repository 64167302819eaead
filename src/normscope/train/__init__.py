"""Training as a visible loop that yields its steps."""

from normscope.train import checkpoint
from normscope.train.loop import DIVERGED_LOSS, Objective, Step, fit
from normscope.train.optimizers import adam, adamw, optimizer, parameter_groups, sgd
from normscope.train.precision import Setup, setup
from normscope.train.schedules import schedule
from normscope.train.spacing import log_spaced

__all__ = [
    "DIVERGED_LOSS",
    "Objective",
    "Setup",
    "Step",
    "adam",
    "adamw",
    "checkpoint",
    "fit",
    "log_spaced",
    "optimizer",
    "parameter_groups",
    "schedule",
    "setup",
    "sgd",
]
