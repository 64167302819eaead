"""Write the verdicts that papers ship with: `python -m normscope_papers.verdicts records/`.

Each paper that names a file for them gets its verdicts there, from the newest finished runs of its items below the
folders given, with the seconds that those runs took.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from normscope.study import judging
from normscope.study.paper import Paper, papers


def write(known: Sequence[Paper], runs: Sequence[Path]) -> list[Path]:
    """Write the file of each of these papers that names one; return the files.

    Raises:
        ValueError: a folder holds no run, or a file of one is damaged; nothing is written then.
    """
    newest = judging.newest(runs)
    fresh = [(paper, judging.verdicts(paper, runs), judging.measured(paper, newest)) for paper in known]
    written = []
    for paper, verdicts, seconds in fresh:
        if paper.shipped is not None:
            judging.write(paper.shipped, verdicts, seconds=seconds)
            written.append(paper.shipped)
    return written


def main(arguments: Sequence[str]) -> int:
    """Write them from the folders named; return the exit code, 2 with one line where that cannot be done."""
    if not arguments:
        print("normscope_papers.verdicts: name a run folder, or a folder of runs such as records/.", file=sys.stderr)
        return 2
    try:
        written = write(papers(), [Path(argument) for argument in arguments])
    except (ValueError, OSError) as error:
        print(f"normscope_papers.verdicts: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
