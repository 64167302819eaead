from __future__ import annotations

import pytest
import torch

from normscope.linalg.orthogonal import loss_of_orthogonality
from normscope.linalg.subspace import Subspace


def defect(space, matrix) -> float:
    """What the space's own account of A V leaves unexplained."""
    m = space.basis.count
    V = space.basis.rows[:m]
    rest = matrix @ V.mT - V.mT @ space._projection[:m, :m]
    if not space.complete:
        rest -= torch.outer(space._recursion.vector, space._ahead[:m])
    for direction, coordinates in zip(space._put_aside, space._aside, strict=True):
        rest -= torch.outer(direction - V.mT @ (V @ direction), coordinates[:m])
    return float(rest.norm())


def noise(generator, size=60):
    return torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.fixture
def space(rotated, generator):
    op = rotated(torch.linspace(-1, 3, 60))
    made = Subspace(op, capacity=30, progress=lambda done: None)
    made.begin_afresh(noise(generator))
    return made


def grow(space, products):
    for _ in range(products):
        space.extend()


def compress(space, count):
    ritz = space.ritz()
    space.compress(ritz, ritz.values.argsort(descending=True)[:count])


def test_the_account_of_the_products_survives_restarts_in_any_order(space, generator):
    """Extend, compress, start afresh, resume: A V is explained to rounding after each, and the bounds hold."""
    A = space.op.matrix
    steps = [
        lambda: grow(space, 12),
        lambda: compress(space, 6),
        lambda: grow(space, 5),
        lambda: space.begin_afresh(noise(generator)),
        lambda: grow(space, 7),
        lambda: compress(space, 8),
        lambda: grow(space, 4),
        lambda: space.begin_afresh(noise(generator)),
        lambda: grow(space, 4),
        lambda: space.resume(0),
        lambda: grow(space, 4),
        lambda: compress(space, 5),
        lambda: grow(space, 6),
    ]
    for number, step in enumerate(steps):
        step()
        assert defect(space, A) < 1e-12, number
        ritz = space.ritz()
        vectors = ritz.coordinates.mT @ space.basis.block(slice(0, 60))
        true = torch.linalg.vector_norm(vectors @ A - ritz.values[:, None] * vectors, dim=1)
        assert (true <= ritz.residuals + 1e-12).all(), number
        assert (space.measured_residuals(ritz) >= ritz.residuals).all()


def test_resuming_lowers_what_a_fresh_start_left_behind(space, generator):
    grow(space, 10)
    space.begin_afresh(noise(generator))
    before = space.ritz().aside.sum()
    assert space.resume(0)
    grow(space, 5)
    assert len(space._put_aside) == 1
    assert space.ritz().aside.amax(0)[-1] < before


def test_only_so_many_directions_are_put_aside_and_the_rest_still_counts(space, generator):
    for _ in range(5):
        grow(space, 4)
        space.begin_afresh(noise(generator))

    assert len(space._put_aside) == 3
    ritz = space.ritz()
    vectors = ritz.coordinates.mT @ space.basis.block(slice(0, 60))
    true = torch.linalg.vector_norm(vectors @ space.op.matrix - ritz.values[:, None] * vectors, dim=1)
    assert (true <= ritz.residuals + 1e-12).all()


def test_a_direction_within_the_space_is_no_start(space):
    grow(space, 3)
    assert not space.begin_afresh(space.basis.rows[:3].sum(0))
    assert space.complete


def test_the_measured_loss_of_orthogonality_widens_the_bounds(space):
    grow(space, 6)
    ritz = space.ritz()
    space.basis.rows[1] += 0.01 * space.basis.rows[0]
    loss = loss_of_orthogonality(space.basis)

    expected = ritz.residuals / (1 - loss) ** 0.5 + loss * ritz.values.abs().max()
    assert loss > 0.009
    torch.testing.assert_close(space.measured_residuals(ritz), expected)
