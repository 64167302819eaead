from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.curvature import HessianOperator
from normscope.probes import Sharpness, SpectralDensity, Subject, curvature
from normscope.probes.curvature import hessian_of


def fresh(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def half_mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum(1).mean()


def drawn(model: nn.Module) -> nn.Module:
    """The model in float64 with weights from a generator of its own."""
    draw = fresh(7)
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return model


def regression(examples: int = 12, *, seed: int = 0) -> tuple[Subject, Tensor]:
    """Linear regression without bias, one output, and its Hessian X'X / n."""
    draw = fresh(seed)
    inputs = torch.randn(examples, 6, generator=draw, dtype=torch.float64)
    model = drawn(nn.Linear(6, 1, bias=False))
    return Subject(model, half_mean_square, (inputs, inputs[:, :1])), inputs.T @ inputs / examples


def softmax_regression() -> tuple[Subject, Tensor]:
    """Three classes from four features with bias, and its Hessian mean((diag(p) - pp') kron xx')."""
    draw = fresh(3)
    inputs, targets = torch.randn(10, 4, generator=draw, dtype=torch.float64), torch.arange(10) % 3
    model = drawn(nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        p = model(inputs).softmax(1)
    within = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    hessian = torch.einsum("nij,na,nb->iajb", within, inputs, inputs).reshape(12, 12) / 10
    return Subject(model, F.cross_entropy, (inputs, targets)), hessian


def test_at_full_depth_the_rule_gives_the_trace_of_any_function_up_to_its_start() -> None:
    subject, hessian = regression()
    values = torch.linalg.eigvalsh(hessian)

    nodes, weights, residuals = SpectralDensity(num_matvecs=6, num_samples=3)(subject, generator=fresh()).values

    torch.testing.assert_close(nodes, values.expand(3, 6))
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))
    assert (weights >= 0).all()
    assert residuals.max() < 1e-10
    assert not torch.allclose(weights[0], weights[1])


def test_the_mean_over_many_starts_is_the_spectral_density() -> None:
    subject, hessian = regression()
    samples = 400
    nodes, weights, _ = SpectralDensity(num_matvecs=2, num_samples=samples)(subject, generator=fresh()).values
    for order in (1, 2, 3):  # two products are exact up to degree 3
        moments = (weights * nodes**order).sum(1)
        stderr = moments.std() / samples**0.5
        assert abs(moments.mean() - torch.linalg.eigvalsh(hessian).pow(order).mean()) < 4 * stderr


def test_within_its_residual_of_every_node_there_is_an_eigenvalue() -> None:
    subject, hessian = softmax_regression()
    values = torch.linalg.eigvalsh(hessian)
    nodes, _, residuals = SpectralDensity(num_matvecs=4, num_samples=3)(subject, generator=fresh()).values
    distance = (nodes[..., None] - values).abs().min(-1).values
    assert (distance <= residuals + 1e-12).all()
    assert residuals.max() > 1e-3  # four products do not resolve twelve dimensions


def test_the_eigenvalues_of_softmax_regression_are_found_at_both_ends() -> None:
    subject, hessian = softmax_regression()
    exact = torch.linalg.eigvalsh(hessian).flip(0)

    reading = Sharpness(k=3, tolerance=1e-8)(subject, generator=fresh())

    assert reading.labels == {"quantity": ("value", "residual", "converged"), "eigenvalue": ("1", "2", "3", "min")}
    torch.testing.assert_close(reading.values[0], torch.cat([exact[:3], exact[-1:]]))
    assert (reading.values[1] <= 1e-8 * exact[0] + 1e-14).all()
    assert (reading.values[2] == 1).all()


def test_an_eigenvalue_that_has_not_converged_says_so() -> None:
    subject, _ = softmax_regression()
    value, residual, converged = Sharpness(k=3, tolerance=1e-8, max_matvecs=4)(subject, generator=fresh()).values
    assert converged[2] == 0
    assert residual[2] > 1e-8 * value[0]


def test_batches_are_weighted_by_their_examples() -> None:
    subject, _ = regression(examples=12)
    inputs, targets = subject.batch
    parts = [(inputs[:3], targets[:3]), (inputs[3:], targets[3:])]
    split = Subject(subject.model, subject.loss_fn, parts[0], more=parts[1:])
    for probe in (SpectralDensity(num_matvecs=6, num_samples=2), Sharpness(k=2)):
        whole, pooled = probe(subject, generator=fresh()), probe(split, generator=fresh())
        torch.testing.assert_close(whole.values[0], pooled.values[0])


def test_a_pattern_takes_the_curvature_of_those_parameters_alone() -> None:
    model = drawn(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    inputs = torch.randn(5, 3, generator=fresh(), dtype=torch.float64)
    subject = Subject(model, F.cross_entropy, (inputs, torch.arange(5) % 2))
    hessian = HessianOperator(model, F.cross_entropy, subject.batch, "1.*")
    dense = hessian.matmat(torch.eye(6, dtype=torch.float64))

    found = Sharpness(k=1, tolerance=1e-8, params="1.*")(subject, generator=fresh()).values[0]

    torch.testing.assert_close(found, torch.linalg.eigvalsh(dense)[[-1, 0]])
    nodes, *_ = SpectralDensity(num_matvecs=6, params=("1.*",))(subject, generator=fresh()).values
    torch.testing.assert_close(nodes[:, [-1, 0]], found.expand(2, 2))


def test_train_and_eval_mode_are_different_matrices_under_batch_normalization() -> None:
    model = drawn(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)))
    inputs = torch.randn(8, 3, generator=fresh(), dtype=torch.float64)
    subject = Subject(model, F.cross_entropy, (inputs, torch.arange(8) % 2))
    found = {}
    for mode in ("train", "eval"):
        found[mode] = Sharpness(k=1, tolerance=1e-8, mode=mode)(subject, generator=fresh()).values[0]
        hessian = HessianOperator(model, F.cross_entropy, subject.batch, mode=mode)
        dense = hessian.matmat(torch.eye(hessian.size, dtype=torch.float64))
        torch.testing.assert_close(found[mode], torch.linalg.eigvalsh(dense)[[-1, 0]])
    assert not torch.allclose(found["train"], found["eval"], rtol=1e-2)


def test_products_are_told_as_they_are_done() -> None:
    subject, _ = regression()
    told: list[int] = []
    SpectralDensity(num_matvecs=3, num_samples=2, progress=told.append)(subject, generator=fresh())
    assert told == [1, 2, 3, 4, 5, 6]
    told.clear()
    Sharpness(k=1, progress=told.append)(subject, generator=fresh())
    assert told == list(range(1, len(told) + 1))
    assert len(told) > 6  # both ends


def test_a_loss_that_is_not_finite_reads_as_nan_in_every_batch() -> None:
    subject, _ = regression()
    inputs, targets = subject.batch
    broken = Subject(subject.model, subject.loss_fn, subject.batch, more=[(inputs, targets * torch.inf)])
    assert SpectralDensity(num_matvecs=3)(broken, generator=fresh()).values.isnan().all()
    assert Sharpness(k=2)(broken, generator=fresh()).values.isnan().all()


def test_the_first_machinery_that_is_exact_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, _ = regression()
    tried: list[str] = []

    def refuses(*arguments: object, machinery: str, **options: object) -> HessianOperator:
        tried.append(machinery)
        if machinery in ("linearized", "retained"):
            raise ValueError("not here")
        return HessianOperator(*arguments, machinery=machinery, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(curvature, "HessianOperator", refuses)
    operator = hessian_of(subject, params=None, mode="train", memory_limit=None)
    assert tried == ["linearized", "retained", "forward_over_reverse"]
    assert operator.report.machinery == "forward_over_reverse"


@pytest.mark.parametrize("probe", [SpectralDensity(num_matvecs=3, memory_limit=10), Sharpness(k=1, memory_limit=10)])
def test_memory_that_does_not_suffice_is_said(probe: SpectralDensity | Sharpness) -> None:
    subject, _ = regression()
    with pytest.raises(ValueError, match=r"takes about .* GB"):
        probe(subject, generator=fresh())


@pytest.mark.parametrize(
    ("probe", "options", "message"),
    [
        (SpectralDensity, {"num_matvecs": 0}, "`num_matvecs` is at least 1, but 0 arrived"),
        (SpectralDensity, {"num_samples": -1}, "`num_samples` is at least 1, but -1 arrived"),
        (Sharpness, {"k": 0}, "`k` is at least 1, but 0 arrived"),
        (Sharpness, {"max_matvecs": 0}, "`max_matvecs` is at least 1, but 0 arrived"),
        (Sharpness, {"tolerance": 0.0}, "`tolerance` is above 0 and finite, but 0.0 arrived"),
    ],
)
def test_options_out_of_range_are_refused(probe: type, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probe(**options)


def test_more_products_than_parameters_are_refused() -> None:
    subject, _ = regression()
    with pytest.raises(ValueError, match="num_matvecs is from 1 to 6"):
        SpectralDensity(num_matvecs=7)(subject, generator=fresh())


def test_a_model_without_parameters_is_refused() -> None:
    inputs = torch.randn(4, 3, generator=fresh(), dtype=torch.float64)
    subject = Subject(nn.Identity(), F.cross_entropy, (inputs, torch.arange(4) % 3))
    with pytest.raises(ValueError, match="Identity has none"):
        Sharpness(k=1)(subject, generator=fresh())
