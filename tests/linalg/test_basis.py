"""All storages: what goes in comes back, to their precision, and what they say about memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from normscope.linalg import HalfPrecision, InMemory, OnDisk, lanczos, quadrature
from normscope.linalg.basis import blocks, fixed
from normscope.linalg.orthogonal import combine

CPU = torch.device("cpu")
SIZE = 600_000  # more than two blocks of any storage


@pytest.fixture(params=["memory", "half", "disk"])
def storage(request, tmp_path):
    return {"memory": InMemory(), "half": HalfPrecision(), "disk": OnDisk(tmp_path)}[request.param]


def precision(storage) -> float:
    return 2.0**-11 if isinstance(storage, HalfPrecision) else 0.0


def test_what_is_appended_comes_back_block_by_block(storage, generator):
    rows = torch.randn(50, SIZE, generator=generator) / SIZE**0.5
    basis = storage.allocate(SIZE, 50, dtype=torch.float32, device=CPU)
    for row in rows:
        basis.append(row)

    read = torch.cat([block.clone() for _, block in blocks(basis)], dim=1)
    columns = [span for span, _ in blocks(basis)]

    assert len(columns) >= 2
    assert (read - rows).abs().max() <= precision(storage) * rows.abs().max()
    assert (basis.count, basis.size, basis.dtype, basis.device) == (50, SIZE, torch.float32, CPU)


def test_half_precision_keeps_the_digits_of_small_entries():
    v = torch.full((1_000_000,), 1.2345e-6)
    basis = HalfPrecision().allocate(len(v), 1, dtype=torch.float32, device=CPU)
    basis.append(v)
    torch.testing.assert_close(combine(basis, torch.ones(1, 1))[0], v, rtol=2**-11, atol=0)


def test_a_cleared_basis_is_empty_and_can_be_filled_again(storage):
    basis = storage.allocate(10, 2, dtype=torch.float32, device=CPU)
    basis.append(torch.ones(10))
    basis.append(torch.ones(10))
    basis.clear()
    assert basis.count == 0
    basis.append(torch.arange(10.0))

    torch.testing.assert_close(combine(basis, torch.ones(1, 1)), torch.arange(10.0)[None], rtol=1e-3, atol=0)


def test_every_storage_gives_the_same_spectrum_within_its_bounds(storage, diagonal, generator):
    eigenvalues = torch.cat([torch.tensor([-3.0, 5.0, 9.0]), torch.linspace(0, 1, 3000)])
    op = diagonal(eigenvalues.double())
    run = lanczos(op, 40, generator=generator, basis=storage)

    exact = lanczos(op, 40, generator=torch.Generator().manual_seed(0))
    ends, rule = [0, -2, -1], quadrature(run)
    difference = (rule.nodes - quadrature(exact).nodes).abs()[ends]
    assert (difference <= rule.residuals[ends] + 1e-12).all()
    assert (difference <= max(1e-12, 0.1 * precision(storage) * 9)).all()
    assert run.orthogonality < max(1e-13, 40 * precision(storage))
    assert (run.orthogonality > 1e-7) == isinstance(storage, HalfPrecision)
    torch.testing.assert_close(run.vectors, exact.vectors, rtol=0, atol=max(1e-11, 4 * precision(storage)))


def test_memory_is_stated_for_each_storage(tmp_path):
    size, vectors, gigabyte = 36_000_000, 90, 1e9
    needs = [s.memory(size, vectors, torch.float32) / gigabyte for s in (InMemory(), HalfPrecision(), OnDisk(tmp_path))]

    assert needs[0] == pytest.approx(90 * 36e6 * 4 / gigabyte + 28 * 36e6 / gigabyte)
    assert needs[1] == pytest.approx(90 * 36e6 * 2 / gigabyte + 28 * 36e6 / gigabyte, rel=0.01)
    assert needs[2] == pytest.approx(28 * 36e6 / gigabyte + 2**26 / gigabyte, rel=0.01)
    assert needs[1] < 8
    assert InMemory(dtype=torch.float64).memory(10, 3, torch.float32) == 3 * 10 * 8 + 28 * 10


MEASURE = """
import sys, torch
from pathlib import Path
from normscope.linalg import HalfPrecision, InMemory, OnDisk, lanczos
torch.set_num_threads(1)
size, vectors = 2_000_000, 40
storage = eval(sys.argv[1])
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
class Diagonal:
    dtype, device = torch.float32, torch.device("cpu")
    def __init__(self, size): self.size, self.d, self.seen = size, torch.linspace(-1, 1, size), []
    def matvec(self, v):
        self.seen.append(resident())
        return self.d * v
generator = torch.Generator().manual_seed(0)
lanczos(Diagonal(2000), 5, generator=generator)
op = Diagonal(size)
before = resident()
lanczos(op, vectors, generator=generator, basis=storage)
print(max(op.seen) - before, storage.memory(size, vectors, torch.float32))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from Linux' /proc")
@pytest.mark.parametrize("storage", ["InMemory()", "HalfPrecision()", "OnDisk(Path(sys.argv[2]))"])
def test_a_run_holds_the_memory_that_was_stated(storage, tmp_path):
    run = [sys.executable, "-c", MEASURE, storage, str(tmp_path)]
    measured, stated = map(int, subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())

    # The latest product's own vector comes on top.
    assert 0.85 * stated < measured < 1.1 * stated + 2 * 4 * 2_000_000


def test_a_basis_on_disk_leaves_no_file_behind_and_needs_its_folder(tmp_path):
    basis = OnDisk(tmp_path).allocate(10, 2, dtype=torch.float32, device=CPU)
    basis.append(torch.ones(10))
    del basis
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"The folder for a basis exists, but .*missing' does not"):
        OnDisk(tmp_path / "missing").allocate(10, 2, dtype=torch.float32, device=CPU)


def test_fixed_vectors_are_taken_as_they_are_and_checked():
    rows = torch.eye(3, 5)
    assert fixed(rows, size=5, dtype=torch.float32, device=CPU).rows.data_ptr() == rows.data_ptr()
    assert fixed(None, size=5, dtype=torch.float32, device=CPU).count == 0
    with pytest.raises(ValueError, match=r"have the shape \(k, 4\), but \(3, 5\) arrived"):
        fixed(rows, size=4, dtype=torch.float32, device=CPU)
