"""What the paper states, and what follows from its definitions, as claims: a number per seed, and a threshold.

c are points of the paper or derived from it, s its slips and what it leaves unremarked, n what it did not test. Where
two sides disagree both are claims. Thresholds were written down before the first run at laptop scale, each with its
reason; none was moved later, but for what docs/depth-limits.md says under "The claims".
"""

from normscope_papers.depth_limits.claims import batches, gradients, isometry, shaping, training

CLAIMS = (
    *isometry.CLAIMS,
    *gradients.CLAIMS,
    *shaping.CLAIMS,
    *batches.CLAIMS,
    *training.CLAIMS,
)

__all__ = ["CLAIMS"]
