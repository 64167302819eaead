from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normscope import theory
from normscope.nn import normalizer

F64 = torch.float64


def gap_of(x):
    """The definition by determinant and trace, of (..., d, n)."""
    gram = x @ x.mT
    size = gram.shape[-1]
    return (gram.diagonal(dim1=-2, dim2=-1).sum(-1) / size).log() - torch.linalg.slogdet(gram).logabsdet / size


def normalized(x):
    return x / x.norm(dim=-1, keepdim=True)


def haar(count, size, generator):
    """QR by Gram and Schmidt, whose R has a positive diagonal: rows of a Gaussian matrix made orthonormal in order."""
    rows = torch.randn(count, size, size, generator=generator, dtype=F64)
    made = []
    for k in range(size):
        row = rows[:, k]
        for _ in range(2):
            for other in made:
                row = row - (row * other).sum(-1, keepdim=True) * other
        made.append(row / row.norm(dim=-1, keepdim=True))
    return torch.stack(made, dim=1)


def start(size, seed, spread=1.0):
    """A full-rank X with unit rows; the smaller the spread, the nearer to an isometry."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.eye(size, dtype=F64) + spread * torch.randn(size, size, generator=generator, dtype=F64)
    return normalized(x)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_the_recursion_is_exact_for_every_orthogonal_weight(size):
    x, generator = start(size, seed=size), torch.Generator().manual_seed(0)
    for w in haar(5, size, generator):
        product = w @ x
        after = theory.isometry_gap_after(gap_of(x).clamp_min(0).item(), product.norm(dim=1))
        assert after == pytest.approx(gap_of(normalized(product)).item(), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 8), spread=st.sampled_from([1e-3, 0.1, 1.0, 100.0]))
def test_the_gap_never_grows_whatever_the_orthogonal_weight(seed, size, spread):
    x = start(size, seed, spread)
    w = torch.from_numpy(np.linalg.qr(np.random.default_rng(seed).uniform(-1, 1, (size, size)))[0])  # not Haar's
    before = max(gap_of(x).item(), 0.0)
    rounding = 1e-12 + 1e-15 * torch.linalg.cond(x).item()
    assert gap_of(normalized(w @ x)).item() <= before + rounding
    assert theory.isometry_gap_after(before, (w @ x).norm(dim=1)) <= before + 1e-12


def test_weights_that_are_not_orthogonal_can_make_it_grow():
    generator = torch.Generator().manual_seed(0)
    x = haar(1, 6, generator)[0]
    w = torch.randn(6, 6, generator=generator, dtype=F64)
    assert gap_of(normalized(w @ x)) > 0.1 > gap_of(x)


def test_the_left_singular_vectors_make_an_isometry_in_one_layer():
    """Corollary A.3."""
    x = start(12, seed=3)
    u = torch.linalg.svd(x).U
    assert gap_of(x) > 0.5
    assert gap_of(normalized(u.T @ x)).item() == pytest.approx(0, abs=1e-13)
    assert theory.isometry_gap_after(gap_of(x).item(), (u.T @ x).norm(dim=1)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("size", "spread"), [(3, 1.0), (6, 0.5), (12, 1.0)])
def test_corollary_4_bounds_the_expected_gap_and_says_something(size, spread):
    x = start(size, seed=1, spread=spread)
    bound = theory.expected_gap_bound(torch.linalg.eigvalsh(x @ x.T))
    gaps = gap_of(normalized(haar(4000, size, torch.Generator().manual_seed(2)) @ x))
    assert bound < gap_of(x).item()
    assert gaps.mean().item() < bound + 4 * gaps.std().item() / math.sqrt(len(gaps))


def test_corollary_4_uses_haars_fourth_moment():
    """The sum in it is E sum_j (|(WX)_j|^2 - 1)^2 (d + 2) / 2, which sampling checks to its standard error."""
    size = 5
    x = start(size, seed=4)
    values = torch.linalg.eigvalsh(x @ x.T)
    squares = (haar(8000, size, torch.Generator().manual_seed(1)) @ x).square().sum(-1)
    sampled = (squares - 1).square().sum(-1) * (size + 2) / 2
    exact = (values - 1).square().sum().item()
    assert abs(sampled.mean().item() - exact) < 4 * sampled.std().item() / math.sqrt(len(sampled))
    expected = gap_of(x).item() + math.log(1 - exact / (2 * size**2 * (size + 2)))
    assert theory.expected_gap_bound(values) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [4, 16])
def test_small_gaps_shrink_at_the_tight_rate(size):
    x = start(size, seed=1, spread=3e-3)
    before = gap_of(x).item()
    ratios = gap_of(normalized(haar(3000, size, torch.Generator().manual_seed(0)) @ x)) / before
    assert before < 1e-3
    error = 4 * ratios.std().item() / math.sqrt(len(ratios)) + math.sqrt(before)  # of sampling; of the next order
    assert abs(ratios.mean().item() - theory.isometry_gap_rate(size)) < error
    assert error < 0.5 * (1 - theory.isometry_gap_rate(size))
    assert theory.isometry_gap_rate(size) == 1 - 2 / (size + 2)


def test_theorem_1_lies_above_what_is_measured():
    size, layers, networks = 6, 120, 20
    x = start(size, seed=2).expand(networks, size, size)
    gaps = [gap_of(x)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(layers):
        x = normalized(haar(networks, size, generator) @ x)
        gaps.append(gap_of(x))
    measured = torch.stack(gaps).mean(1)
    bound = theory.isometry_gap_bound(measured[0].item(), size, layers)
    assert (bound.shape, bound.dtype) == ((layers + 1,), F64)
    assert bool((measured <= bound + 1e-12).all())
    tight = measured[40].item() * theory.isometry_gap_rate(size) ** 60
    assert measured[100].item() == pytest.approx(tight, rel=1.0)  # a factor 2 where the bound is off by 1e6
    assert bound[100] > 1e6 * measured[100]


def test_the_bound_has_the_constants_of_the_proof():
    for gap, decay in ((1e-3, 2 * 10**2), (0.5, 32 * 10**3 * 0.5)):
        bound = theory.isometry_gap_bound(gap, 10, 3)
        expected = [gap * math.exp(-layer / decay) for layer in range(4)]
        assert bound.tolist() == pytest.approx(expected, rel=1e-14)
    assert theory.isometry_gap_bound(0.0, 5, 2).tolist() == [0.0, 0.0, 0.0]
    assert theory.isometry_gap_bound(math.inf, 5, 2).tolist() == [math.inf] * 3


def test_theorem_5_has_no_depth_in_the_limit():
    at = [theory.gradient_log_norm_bound(0.5, 3, depth) for depth in (0, 100, 10**5, 10**6)]
    assert at[0] == pytest.approx(math.log(3) + 3**5 * 0.125)
    assert at[1] == pytest.approx(math.log(3) + 3**5 * (0.125 + 1 - math.exp(-100 / (32 * 81))))
    assert at[2] == at[3] == pytest.approx(math.log(3) + 3**5 * 1.125)
    assert theory.gradient_log_norm_bound(0.5, 100, 1000) < theory.gradient_log_norm_bound(0.5, 100, 2000)


def test_the_jacobian_of_the_operator_is_the_reciprocal_of_its_smallest_row():
    """The lemma behind theorem 5, with the bound by the Gram matrix's smallest eigenvalue."""
    x = 3 * start(5, seed=6)
    site = normalizer("bnl2").site(5, ndim=2)
    jacobian = torch.autograd.functional.jacobian(lambda rows: site(rows.T).T, x).reshape(25, 25)
    norm = torch.linalg.matrix_norm(jacobian, 2).item()
    assert norm == pytest.approx(1 / x.norm(dim=1).min().item(), rel=1e-10)
    assert norm <= torch.linalg.eigvalsh(x @ x.T).min().item() ** -0.5


def test_a_singular_gram_matrix_has_an_infinite_gap():
    assert theory.expected_gap_bound(torch.tensor([0.0, 1.0, 2.0])) == math.inf
    assert theory.expected_gap_bound(torch.ones(4)) == 0.0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: theory.isometry_gap_bound(-0.1, 5, 3), "gap is at least 0, got -0.1"),
        (lambda: theory.isometry_gap_bound(math.nan, 5, 3), "gap is at least 0, got nan"),
        (lambda: theory.isometry_gap_bound(0.1, 0, 3), "width must be at least 1, got 0"),
        (lambda: theory.isometry_gap_bound(0.1, 5, -1), "layers must be at least 0, got -1"),
        (lambda: theory.isometry_gap_rate(0), "width must be at least 1, got 0"),
        (lambda: theory.isometry_gap_after(0.1, torch.tensor([1.0, 2.0])), "2 squared row norms must sum to 2, got 5"),
        (lambda: theory.expected_gap_bound(torch.tensor([2.5, -0.5])), "at least 0, but a smaller one arrived"),
        (lambda: theory.expected_gap_bound(torch.tensor([2.0, 1.0])), "2 eigenvalues must sum to 2, got 3"),
        (lambda: theory.gradient_log_norm_bound(0.1, 5, -1), "depth must be at least 0, got -1"),
    ],
)
def test_bad_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
