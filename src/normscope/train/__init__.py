"""Training as a visible loop that yields its steps."""

from normscope.train.loop import DIVERGED_LOSS, Objective, Step, fit
from normscope.train.optimizer import parameter_groups, sgd
from normscope.train.schedule import log_spaced

__all__ = ["DIVERGED_LOSS", "Objective", "Step", "fit", "log_spaced", "parameter_groups", "sgd"]
