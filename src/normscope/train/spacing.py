"""When to look at a run: steps evenly spaced in the logarithm."""

from __future__ import annotations


def log_spaced(last: int, per_decade: int = 4) -> tuple[int, ...]:
    """Steps 0 and `last`, and between them so many per factor of ten, rounded: early training changes fastest.

    >>> log_spaced(100)
    (0, 1, 2, 3, 6, 10, 18, 32, 56, 100)

    Raises:
        ValueError: last is negative, or per_decade less than 1.
    """
    if last < 0:
        raise ValueError(f"last must be zero or more, got {last}.")
    if per_decade < 1:
        raise ValueError(f"per_decade must be at least 1, got {per_decade}.")
    steps = {0, last}
    power, step = 0, 1
    while step < last:
        steps.add(step)
        power += 1
        step = round(10 ** (power / per_decade))
    return tuple(sorted(steps))
