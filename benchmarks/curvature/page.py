"""The page of the documentation, from the JSON alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.curvature.problems import LARGE, OUTLIERS, PROBLEMS, SMALL
from benchmarks.curvature.stated import stated_errors
from benchmarks.curvature.tools import TITLES

Record = dict[str, Any]
# Relative error of a product from which on it is another matrix's. Rounding is far below in the small networks; in
# float32 the 26 layers under batch norm amplify it to about 1e-3 for every tool.
WRONG = 1e-3
WRONG_LARGE = 1e-2


def versions(requirements: Path) -> list[str]:
    """The pinned peers, as the table's columns need them."""
    peers = ("pyhessian", "curvlinops", "hessian-eigenthings", "backpack")
    return [line for line in requirements.read_text().splitlines() if line.startswith(peers)]


def render(record: Record) -> str:
    """Markdown of everything measured; what was not is an empty cell."""
    sections = (
        introduction(record),
        products(record, "hessian", "Hessian products"),
        products(record, "ggn", "GGN products"),
        left_behind(record),
        *(large(record, problem.name, problem.title) for problem in LARGE),
        algorithms(record),
        *curves(record),
        failures(record),
    )
    return "\n".join("\n".join(section) + "\n" for section in sections if section)


def introduction(record: Record) -> list[str]:
    machine = dict(record["machine"])
    peers = machine.pop("peers")
    data = record["problems"].get("wrn128", {}).get("data", "seeded random images")
    return [
        "# Curvature beside other tools",
        "",
        "Written by `make bench-curvature` from [its results](../benchmarks/results/curvature.json). "
        f"Peers: {', '.join(peers)}. "
        + ", ".join(f"{key} {value}" for key, value in machine.items())
        + f". Images: {data}. Each tool is used the fastest way its documentation offers, all in one environment, on "
        "the same weights, data and vectors, in train mode. PyHessian stands here twice: its constructor puts the "
        "model into eval mode and, given one batch, keeps that graph; given a list of batches, the model can be set "
        "back to train mode afterwards. A dash: the tool has no such algorithm.",
    ]


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|---|" + "---:|" * (len(head) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def cell(record: Record, name: str) -> Record:
    return record["cells"].get(name, {"absent": True})


def shown(answer: Record, write: Any) -> str:
    """One answer as text: `write` of its value, "fails", a dash, or nothing where it was not measured."""
    if "value" in answer:
        return write(answer["value"])
    return "fails" if "fails" in answer else "–" if "missing" in answer else ""


def inner(answer: Record, *path: str) -> Record:
    """An answer within an answer; failing is inherited."""
    for key in path:
        if "value" not in answer:
            return answer
        answer = answer["value"].get(key, {"absent": True})
        if not isinstance(answer, dict):
            return {"value": answer}
    return answer


def number(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")


def judged(limit: float) -> Any:
    return lambda error: f"**wrong** {error:.2g}" if not error < limit else number(error)


def products(record: Record, kind: str, title: str) -> list[str]:
    rows = [
        [problem.title]
        + [
            shown(inner(cell(record, f"product/{problem.name}/{tool}"), f"{kind}_float64"), judged(WRONG))
            for tool in TITLES
        ]
        for problem in SMALL
    ]
    return [
        f"## {title}",
        "",
        "Relative error of one product in float64 against the dense matrix, itself checked against differences of "
        f"gradients; wrong from {WRONG:g} on. In float32 the same cells are wrong and fail, the others at 1e-7 to "
        "1e-6.",
        "",
        *table(["network", *TITLES.values()], rows),
    ]


def left_behind(record: Record) -> list[str]:
    found: dict[str, dict[str, list[str]]] = {tool: {} for tool in TITLES}
    for problem in SMALL:
        for tool in TITLES:
            answer = cell(record, f"product/{problem.name}/{tool}")
            for what in answer.get("value", {}).get("left_behind", []):
                found[tool].setdefault(what, []).append(problem.name)
    rows = []
    for tool, title in TITLES.items():
        wording = [
            f"{what} ({'all' if len(where) == len(SMALL) else ', '.join(where)})" for what, where in found[tool].items()
        ]
        rows.append([title, "; ".join(wording) or "nothing"])
    return [
        "## What a Hessian product leaves behind in the model",
        "",
        *table(["tool", "changed after one product (on which networks)"], rows),
        "",
        "PyHessian set back to train mode: the constructor's change of mode was undone by hand before the product.",
    ]


def large(record: Record, problem: str, title: str) -> list[str]:
    if not any(name.split("/")[1] == problem for name in record["cells"]):
        return []  # not measured on this machine
    facts = record["problems"].get(problem, {})
    rows = []
    scaled = False
    for tool, name in TITLES.items():
        timing, density, top = (cell(record, f"{task}/{problem}/{tool}") for task in ("timing", "density", "top"))
        scaled = scaled or density.get("value", {}).get("scaled", False)
        rows.append(
            [
                name,
                shown(inner(timing, "product_seconds"), seconds),
                shown(inner(timing, "gradients"), "{:.2f}".format),
                shown(inner(timing, "ggn", "gradients"), "{:.2f}".format),
                shown(inner(timing, "first_seconds"), seconds),
                shown(inner(timing, "peak_bytes"), lambda size: f"{size / 1e9:.2f}"),
                shown(inner(timing, "error"), judged(WRONG_LARGE)),
                shown(density, lambda value: seconds(value["seconds"]) + ("†" if value["supplied"] else "")),
                shown(inner(density, "recursion_share"), "{:.0%}".format),
                shown(top, found_top) if problem == "mlp" else "",
            ]
        )
    head = ["tool", "product, s", "product, gradients", "GGN, gradients", "first product, s", "peak memory, GB"]
    head += ["error", "density, s", "of it beyond products", "top ten, products (s)"]
    measured = [any(f"{task}/{problem}/{tool}" in record["cells"] for tool in TITLES) for task in ("density", "top")]
    columns = 7 + 2 * measured[0] + measured[1]
    how = "timed on one run of 20 products and scaled by 40" if scaled else "timed in full"
    return [
        f"## {title}",
        "",
        f"{facts.get('parameters', 0):,} parameters, float32. Product and gradient are timed in turn, medians. The "
        "first product carries all a tool does once. Peak memory is that of a process of its own, beyond model, data "
        "and libraries."
        + (f" Density: 10 samples of 80 products, {how}." if measured[0] else "")
        + (" Top ten: until all ten are within 1e-3 of ARPACK's in float64." if problem == "mlp" else ""),
        "",
        *table(head[:columns], [row[:columns] for row in rows]),
        *(["", "† with `torch.eig` supplied by the benchmark; as installed it fails."] if measured[0] else []),
    ]


def seconds(value: float) -> str:
    return f"{value:.3g}"


def found_top(value: Record) -> str:
    last = value["rows"][-1]
    if last["top_ten"] > WRONG:
        return f"not in {last['products']} (error {last['top_ten']:.0e})"
    return f"{last['products']} ({seconds(last['seconds'])})"


def algorithms(record: Record) -> list[str]:
    lines = [
        "## Errors on networks small enough for the exact answer",
        "",
        "float32. Density, and the trace of the square from it: 10 samples of 80 products, Wasserstein-1 in units of "
        "the spectral range. Trace: 99 products by the tool's best estimator. Top ten: 80 products, the largest "
        "relative error of the ten.",
    ]
    for problem in ("plain", "batchnorm2d", "layernorm"):
        rows = []
        for tool, name in TITLES.items():
            answer = cell(record, f"algorithms/{problem}/{tool}")
            value, supplied = inner(answer, "density"), inner(answer, "density_supplied")
            mark, density = ("†", supplied) if "value" in supplied else ("", value)
            columns = [inner(density, "wasserstein"), inner(density, "bulk"), inner(density, "trace_of_square")]
            texts = [text + mark if (text := shown(column, number)) else text for column in columns]
            texts += [shown(inner(answer, "trace"), number), shown(inner(answer, "top"), number)]
            rows.append([name, *texts])
        head = ["tool", "density", "density, bulk", "trace of the square", "trace", "top ten"]
        lines += ["", f"### {PROBLEMS[problem].title}", "", *table(head, rows)]
    return [*lines, "", "A tool whose product is wrong on a network has these errors from another matrix."]


def curves(record: Record) -> list[list[str]]:
    found = {tool: cell(record, f"curves/{OUTLIERS.name}/{tool}") for tool in TITLES}
    found = {tool: answer["value"]["rows"] for tool, answer in found.items() if "value" in answer}
    if not found:
        return []
    budgets = [row["budget"] for row in next(iter(found.values()))]
    lines = [
        "## Error against products",
        "",
        f"{OUTLIERS.title}; {record['problems'][OUTLIERS.name]['parameters']:,} parameters. Root mean square over six "
        "seeds. Each quantity has the whole budget to itself, and each tool the division of it into samples, and the "
        "estimator of the trace, that suit it best; `normscope, together` is all three out of the one budget, the "
        "outliers deflated.",
        "",
        "![Error against products](../benchmarks/results/curvature.svg)",
    ]
    for quantity, error, title in (
        ("density", "wasserstein", "Density, Wasserstein-1 in units of the spectral range"),
        ("density", "bulk", "Density, the same below the ten outliers, in units of what is left of the range"),
        ("trace", "error", "Trace"),
        ("top", "error", "Top ten, the worst of them"),
    ):
        rows = [
            [TITLES[tool], *(shown(inner(row[quantity], error), "{:.1e}".format) for row in data)]
            for tool, data in found.items()
        ]
        together = {"error": quantity}.get(error, error)
        rows += [
            [f"{TITLES[tool]}, together", *(shown(inner(row["together"], together), "{:.1e}".format) for row in data)]
            for tool, data in found.items()
            if any("value" in row["together"] for row in data)
        ]
        lines += ["", f"### {title}", "", *table(["products", *map(str, budgets)], rows)]
    return [lines, stated_errors(found, TITLES, table)]


def failures(record: Record) -> list[str]:
    """Every distinct first line of an exception, with where it came up."""
    found: dict[tuple[str, str], list[str]] = {}

    def collect(tool: str, where: str, answer: Any) -> None:
        if isinstance(answer, dict):
            if "fails" in answer:
                found.setdefault((tool, answer["fails"]), []).append(where)
            for part in answer.values():
                collect(tool, where, part)
        elif isinstance(answer, list):
            for part in answer:
                collect(tool, where, part)

    for name, answer in record["cells"].items():
        task, problem, tool = name.split("/")
        collect(tool, f"{task} of {problem}", answer)
    lines = [
        f"- {TITLES[tool]}: `{message}` ({', '.join(dict.fromkeys(where))})" for (tool, message), where in found.items()
    ]
    return ["## What fails, in the tools' own words", "", *(lines or ["Nothing."])]
