"""Trust badges: what each normalizer can be trusted with, checked on the machine it will run on."""

from normscope.trust.checking import BADGES, Environment, check, environment, select
from normscope.trust.outcome import Badge, Outcome, Result

__all__ = ["BADGES", "Badge", "Environment", "Outcome", "Result", "check", "environment", "select"]
