from __future__ import annotations

import dataclasses

import pytest
import torch

from normscope.linalg import averaged_quadrature, lanczos, quadrature


@pytest.fixture
def problem(rotated, generator):
    """An operator, a unit start, and the exact v^T A^p v."""
    op = rotated(torch.randn(60, generator=generator))
    start = torch.randn(60, generator=generator, dtype=torch.float64)
    start /= start.norm()
    eigenvalues, Q = torch.linalg.eigh(op.matrix)

    def moment(power: int) -> float:
        return float((Q.mT @ start).square() @ eigenvalues.pow(power))

    return op, start, moment


def test_a_gauss_rule_is_exact_to_degree_2m_minus_1_and_no_further(problem, generator):
    op, start, moment = problem
    rule = quadrature(lanczos(op, 5, generator=generator, start=start))

    for power in range(10):
        assert float(rule.weights @ rule.nodes.pow(power)) == pytest.approx(moment(power), rel=1e-11, abs=1e-11)
    assert float(rule.weights @ rule.nodes.pow(10)) != pytest.approx(moment(10), rel=1e-6)


@pytest.mark.parametrize("m", [2, 3, 6])
def test_an_averaged_rule_is_exact_to_degree_2m_with_positive_weights(problem, generator, m):
    op, start, moment = problem
    nodes, weights = averaged_quadrature(lanczos(op, m, generator=generator, start=start))

    assert len(nodes) == 2 * m - 1
    assert (weights >= 0).all()
    for power in range(2 * m + 1):
        assert float(weights @ nodes.pow(power)) == pytest.approx(moment(power), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("m", [3, 4, 9])
def test_the_averaged_rule_of_the_chebyshev_weight_is_its_lobatto_rule(diagonal, generator, m):
    """The recursion 1/sqrt(2), 1/2, 1/2, ... run there and back has the extrema of a Chebyshev polynomial as nodes."""
    run = lanczos(diagonal(torch.linspace(-1, 1, 40)), m, generator=generator)
    beta = torch.full((m,), 0.5, dtype=torch.float64)
    beta[0] = 0.5**0.5
    chebyshev = dataclasses.replace(run, diagonal=torch.zeros(m, dtype=torch.float64), off_diagonal=beta)

    nodes, weights = averaged_quadrature(chebyshev)

    steps = 2 * m - 2
    extrema = torch.cos(torch.pi * torch.arange(steps, -1, -1, dtype=torch.float64) / steps)
    shares = torch.full((steps + 1,), 1 / steps, dtype=torch.float64)
    shares[0] = shares[-1] = 0.5 / steps
    torch.testing.assert_close(nodes, extrema, rtol=0, atol=1e-14)
    torch.testing.assert_close(weights, shares, rtol=0, atol=1e-14)


@pytest.mark.parametrize("m", [1, 3])
def test_where_there_is_nothing_to_average_the_rule_is_gauss(diagonal, generator, m):
    run = lanczos(diagonal(torch.tensor([1.0, 2.0, 4.0])), m, generator=generator)
    rule = quadrature(run)
    nodes, weights = averaged_quadrature(run)
    assert torch.equal(nodes, rule.nodes)
    assert torch.equal(weights, rule.weights)


def test_full_depth_quadrature_is_exact_for_any_function(rotated, seed):
    generator = torch.Generator().manual_seed(seed)
    op = rotated(torch.linspace(1, 2, 12))
    start = torch.randn(12, generator=generator, dtype=torch.float64)

    rule = quadrature(lanczos(op, 12, generator=generator, start=start))

    eigenvalues, Q = torch.linalg.eigh(op.matrix)
    exact = (Q.mT @ start).square() @ eigenvalues.log()
    torch.testing.assert_close(start @ start * (rule.weights @ rule.nodes.log()), exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_eigenvalue_lies_within_the_residual_of_each_node(diagonal, generator, dtype):
    eigenvalues = torch.cat([torch.linspace(-0.5, 0.5, 500), torch.tensor([4.0, 10.0])]).to(dtype)
    run = lanczos(diagonal(eigenvalues), 25, generator=generator)
    rule = quadrature(run)

    S = torch.linalg.eigh(run.matrix).eigenvectors
    vectors = S.mT @ run.vectors.double()
    true = torch.linalg.vector_norm(vectors * eigenvalues.double() - rule.nodes[:, None] * vectors, dim=1)
    distance = (rule.nodes[:, None] - eigenvalues.double()).abs().amin(1)
    rounding = 4 * torch.finfo(dtype).eps * 10
    assert (distance <= rule.residuals).all()
    assert (true <= rule.residuals + rounding).all()
    assert (rule.residuals <= 1.01 * true + 100 * rounding).all()


def test_the_loss_of_orthogonality_widens_the_residuals(diagonal, generator):
    run = lanczos(diagonal(torch.linspace(0, 1, 50)), 5, generator=generator)
    lossy = dataclasses.replace(run, orthogonality=0.01)
    before, after = quadrature(run), quadrature(lossy)
    torch.testing.assert_close(
        after.residuals, before.residuals / 0.99**0.5 + 0.01 * before.nodes.abs().max(), rtol=1e-5, atol=0
    )
