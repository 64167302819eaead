"""A process of the peers' environment: requests {"task", "tool", "problem"} on stdin, answers on stdout, in JSON lines.

``python -m benchmarks.curvature.worker FOLDER``.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from pathlib import Path

from benchmarks.curvature.curves import curves
from benchmarks.curvature.tasks import TASKS, attempt


def main() -> None:
    folder = Path(sys.argv[1])
    tasks = TASKS | {"curves": curves}
    warnings.filterwarnings("ignore")
    answers = sys.stdout
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):  # some tools print
            task = tasks[request["task"]]
            result = attempt(lambda: task(request["tool"], request["problem"], folder))  # noqa: B023
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
