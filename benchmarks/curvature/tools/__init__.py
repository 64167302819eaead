"""One adapter per tool, each using it the fastest way its documentation offers."""

from __future__ import annotations

import importlib

# Name in cells -> module with a class `Adapter`, name in tables.
TOOLS = {
    "normscope": ("benchmarks.curvature.tools.ours", "normscope"),
    "pyhessian": ("benchmarks.curvature.tools.pyhessian_single", "PyHessian"),
    "pyhessian_train": ("benchmarks.curvature.tools.pyhessian_loader", "PyHessian, set back to train mode"),
    "curvlinops": ("benchmarks.curvature.tools.curvlinops_tool", "curvlinops"),
    "eigenthings": ("benchmarks.curvature.tools.eigenthings", "hessian-eigenthings"),
    "linearize": ("benchmarks.curvature.tools.torch_linearize", "torch.func.linearize"),
    "backpack": ("benchmarks.curvature.tools.backpack_tool", "BackPACK"),
}
TITLES = {name: title for name, (_, title) in TOOLS.items()}


def adapter(name: str) -> type:
    return importlib.import_module(TOOLS[name][0]).Adapter
