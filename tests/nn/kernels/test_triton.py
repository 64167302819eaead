"""The Triton kernels: right under Triton's interpreter, whatever their speed; and on a device, where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import normscope as ns

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed; torch for CUDA brings it, and so does make test-long"
)


def test_the_kernels_are_right_under_the_interpreter():
    """In a process of its own: Triton reads the variable when it is first imported."""
    suite = Path(__file__).with_name("interpreted.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(suite)]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["bmlv", "lmbv", "prelayernorm", "bnl2", "rmsnorm"])
def test_a_site_on_a_device_equals_the_one_on_the_cpu(name):
    x = torch.randn(8, 6, 10, 10, generator=torch.Generator().manual_seed(0))
    results = []
    for device in ("cpu", "cuda"):
        leaf = x.to(device).requires_grad_()
        y = ns.normalizer(name).site(6, device=device)(leaf)
        results.append([y.cpu(), torch.autograd.grad(y.sin().sum(), leaf)[0].cpu()])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
