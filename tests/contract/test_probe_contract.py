"""One suite over every probe: what it promises for any model, and that it leaves no trace."""

from __future__ import annotations

import contextlib
import copy
import functools
import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from normscope.probes import (
    BatchDependence,
    BatchRank,
    BatchSizeAccuracy,
    ChannelMoments,
    ChannelMomentsAlongStep,
    CovariateShift,
    ExplosionRate,
    GradientCorrelation,
    GradientHistogram,
    GradientNoise,
    GradientNorm,
    GradientSums,
    GradientSymmetry,
    InformationPropagation,
    IsometryGap,
    LogitGradients,
    LossAlongGradient,
    Moments,
    Penalty,
    Probe,
    Reading,
    RelativeLoss,
    Sharpness,
    SpectralDensity,
    Subject,
    TrainEvalGap,
    WeightGradientNorm,
    WeightOrthogonality,
)

from .probe_subjects import MODELS, subject_of

PROBES: dict[str, Probe] = {
    "information_propagation": InformationPropagation(),
    "information_propagation_eval": InformationPropagation(mode="eval"),
    "information_propagation_last": InformationPropagation(select="last", centered=True),
    "gradient_norm": GradientNorm(),
    "gradient_norm_eval": GradientNorm(mode="eval"),
    "gradient_norm_last": GradientNorm(select="last"),
    "gradient_correlation_similar": GradientCorrelation(),
    "gradient_correlation_independent": GradientCorrelation(pairs="independent"),
    "gradient_correlation_network": GradientCorrelation(by="network", mode="eval"),
    "gradient_correlation_independent_network": GradientCorrelation(pairs="independent", by="network"),
    "spectral_density": SpectralDensity(num_matvecs=4, num_samples=2),
    "spectral_density_eval": SpectralDensity(num_matvecs=4, num_samples=1, params="*weight", mode="eval"),
    "sharpness": Sharpness(k=2),
    "moments": Moments(),
    "moments_eval": Moments(select="last", mode="eval"),
    "penalty": Penalty(),
    "penalty_eval": Penalty(over="channel", unbiased=True, select="last", mode="eval"),
    "batch_dependence": BatchDependence(),
    "batch_dependence_eval": BatchDependence(mode="eval"),
    "train_eval_gap": TrainEvalGap(),
    "train_eval_gap_eval": TrainEvalGap(mode="eval"),
    "batch_size_accuracy": BatchSizeAccuracy(sizes=(2, 8)),
    "batch_size_accuracy_eval": BatchSizeAccuracy(sizes=(3,), mode="eval"),
    "channel_moments": ChannelMoments(side="input"),
    "channel_moments_eval": ChannelMoments(by="channel", select="last", mode="eval"),
    "channel_moments_along_step": ChannelMomentsAlongStep(lr=0.01, fractions=(0, 1)),
    "covariate_shift": CovariateShift(lr=0.1),
    "gradient_histogram": GradientHistogram(bins=3),
    "gradient_histogram_moments": GradientHistogram(statistic="moments", mode="eval"),
    "gradient_noise_eval": GradientNoise(batch_sizes=(2, 16), mode="eval"),
    "gradient_sums": GradientSums(),
    "logit_gradients": LogitGradients(),
    "logit_gradients_similarity": LogitGradients(statistic="similarity", mode="eval"),
    "loss_along_gradient": LossAlongGradient(step_sizes=(0.5,)),
    "relative_loss": RelativeLoss(step_sizes=(0.01, 0.1)),
    "isometry_gap": IsometryGap(),
    "isometry_gap_eval": IsometryGap(centered=True, side="input", select="last", mode="eval"),
    "isometry_gap_weights": IsometryGap(of="weights"),
    "weight_orthogonality": WeightOrthogonality(),
    "weight_gradient_norm": WeightGradientNorm(),
    "weight_gradient_norm_eval": WeightGradientNorm(select="last", mode="eval"),
    "explosion_rate": ExplosionRate(gap=1),
    "gradient_symmetry": GradientSymmetry(),
    "batch_rank": BatchRank(),
    "batch_rank_eval": BatchRank(statistic="cosine", precision="float32", mode="eval"),
}
# Take all batches together as one loss: there is no spread over them.
POOLS_BATCHES = (SpectralDensity, Sharpness, GradientHistogram, GradientNoise)
POOLED = (LogitGradients(),)  # its other statistic has a spread
# Run no forward pass and read no batch.
READS_WEIGHTS = (PROBES["isometry_gap_weights"], PROBES["weight_orthogonality"])
# Those of `MODELS` that a probe refuses: with a single layer there is no rate; an embedding is not square, and
# no linear layer; its row depends on the place in the batch, so that an example alone has another loss.
REFUSES = {ExplosionRate: {"bare", "tied", "shared", "writer", "dictionary"}, GradientSymmetry: {"writer"}}
REFUSES |= {GradientSums: {"writer"}, GradientNoise: {"writer"}}
DRAWS = sorted(
    name for name, probe in PROBES.items() if "floating_inputs" in probe.requires or isinstance(probe, SpectralDensity)
)


def snapshot(subject: Subject) -> dict[str, Any]:
    """Everything a probe could have touched."""
    model = subject.model
    hooks = {n: {k: list(v) for k, v in vars(m).items() if k.endswith("_hooks")} for n, m in model.named_modules()}
    return {
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "identity": {name: id(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())},
        "grad": {name: parameter.grad.clone() for name, parameter in model.named_parameters()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "mode": {name: module.training for name, module in model.named_modules()},
        "attributes": {name: dict(vars(module)) for name, module in model.named_modules()},
        "hooks": hooks,
        "batches": [leaf.clone() for leaf in pytree.tree_leaves(list(subject.batches()))],
        "versions": [leaf._version for leaf in pytree.tree_leaves(list(subject.batches()))],
        "random": (torch.get_rng_state(), np.random.get_state(), random.getstate()),
        "grad_mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def assert_untouched(subject: Subject, before: dict[str, Any]) -> None:
    after = snapshot(subject)
    assert before.keys() == after.keys()
    for key, value in before.items():
        old, old_spec = pytree.tree_flatten(value)
        new, new_spec = pytree.tree_flatten(after[key])
        assert old_spec == new_spec, key
        for a, b in zip(old, new, strict=True):
            if isinstance(a, Tensor) and a is not b:
                assert torch.equal(a, b), key
            elif isinstance(a, np.ndarray):
                assert np.array_equal(a, b), key
            else:
                assert a is b or a == b, key


def fresh() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@functools.cache
def reading_of(probe: Probe, model_name: str) -> Reading:
    """What the probe reads of that model; taken once, as several tests compare with it."""
    return probe(subject_of(model_name), generator=fresh())


@pytest.fixture(params=sorted(PROBES))
def probe(request: pytest.FixtureRequest) -> Probe:
    return PROBES[request.param]


@pytest.fixture(params=sorted(MODELS))
def model_name(request: pytest.FixtureRequest, probe: Probe) -> str:
    if request.param in REFUSES.get(type(probe), ()):
        pytest.skip("the probe refuses this model")
    return str(request.param)


def test_the_subject_is_untouched_bit_for_bit(probe: Probe, model_name: str) -> None:
    subject = subject_of(model_name)
    before = snapshot(subject)

    probe(subject, generator=fresh())

    assert_untouched(subject, before)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_the_subject_is_untouched_when_its_forward_raises(probe: Probe, fails_at: int) -> None:
    if probe in READS_WEIGHTS:
        pytest.skip("runs no forward pass")
    subject = subject_of("norms")
    calls = 0

    def forward(model: nn.Module, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        outputs = model(x)
        if calls == fails_at:
            raise RuntimeError("out of memory")
        return outputs

    failing = Subject(subject.model, subject.loss_fn, subject.batch, more=subject.more, forward=forward)
    before = snapshot(subject)

    with pytest.raises(RuntimeError, match="out of memory"):
        probe(failing, generator=fresh())

    assert_untouched(subject, before)


def test_the_reading_is_labeled_finite_and_within_its_bounds(probe: Probe, model_name: str) -> None:
    reading = reading_of(probe, model_name)

    assert reading.values.shape == tuple(len(reading.labels[axis]) for axis in reading.axes)
    assert reading.values.dtype == torch.float64
    assert reading.values.isfinite().all()
    if isinstance(probe, POOLS_BATCHES) or probe in (*POOLED, *READS_WEIGHTS):
        assert reading.stderr is None
    else:
        assert reading.stderr is not None
        assert reading.stderr.shape == reading.values.shape
        assert (reading.stderr >= 0).all()
    assert reading.frame()["value"].tolist() == reading.values.flatten().tolist()
    if "correlation" in reading.name or "propagation" in reading.name:
        assert (reading.values.abs() <= 1 + 1e-12).all()


def test_a_single_observation_has_no_standard_error(probe: Probe) -> None:
    batches = 2 if "two_batches" in probe.requires else 1
    assert probe(subject_of("norms", batches=batches), generator=fresh()).stderr is None


def test_the_same_seed_gives_the_same_reading(probe: Probe, model_name: str) -> None:
    first = reading_of(probe, model_name)
    torch.rand(3)
    second = probe(subject_of(model_name), generator=fresh())

    assert torch.equal(first.values, second.values)
    assert first.labels == second.labels


@pytest.mark.parametrize("name", DRAWS)
def test_another_seed_gives_another_reading_where_something_is_drawn(name: str) -> None:
    first, second = (
        PROBES[name](subject_of("norms"), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    assert not torch.equal(first.values, second.values)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_reading_does_not_depend_on_the_callers_grad_mode(
    probe: Probe, model_name: str, context: Callable[[], contextlib.AbstractContextManager[object]]
) -> None:
    expected = reading_of(probe, model_name)
    with context():
        subject = subject_of(model_name)  # the model and its batches made here: inference tensors in one of the cases
        reading = probe(subject, generator=fresh())

    assert torch.equal(reading.values, expected.values)
    assert not reading.values.is_inference()


def test_the_reading_does_not_depend_on_modes_or_frozen_parameters(probe: Probe) -> None:
    subject = subject_of("norms")
    expected = reading_of(probe, "norms")
    subject.model.eval().requires_grad_(False)

    assert torch.equal(probe(subject, generator=fresh()).values, expected.values)


def test_dropout_is_off(probe: Probe) -> None:
    subject, without = subject_of("dropout"), subject_of("dropout")
    without.model[2] = nn.Identity()

    assert torch.equal(probe(subject, generator=fresh()).values, probe(without, generator=fresh()).values)


def test_half_precision_models_are_measured(probe: Probe) -> None:
    subject = subject_of("norms")
    subject.model.to(torch.bfloat16)
    rounded = [(x.to(torch.bfloat16), y) for x, y in subject.batches()]
    exact = reading_of(probe, "norms")

    reading = probe(Subject(subject.model, subject.loss_fn, rounded[0], more=rounded[1:]), generator=fresh())

    assert reading.values.dtype == torch.float64
    torch.testing.assert_close(reading.values, exact.values, rtol=0.2, atol=0.1)


def test_a_diverged_model_gives_a_reading(probe: Probe) -> None:
    subject = subject_of("norms")
    with torch.no_grad():
        subject.model[3].weight.fill_(torch.nan)

    assert not probe(subject, generator=fresh()).values.isfinite().all()


def test_a_loader_that_draws_from_the_global_random_state_leaves_it_alone(probe: Probe) -> None:
    subject = subject_of("norms")
    examples = torch.utils.data.TensorDataset(*subject.batch)
    loader = torch.utils.data.DataLoader(examples, batch_size=8, shuffle=True)
    with_loader = Subject(subject.model, subject.loss_fn, subject.batch, more=loader)
    state = torch.get_rng_state()
    first = probe(with_loader, generator=fresh())
    assert torch.equal(torch.get_rng_state(), state)

    torch.rand(3)
    assert torch.equal(probe(with_loader, generator=fresh()).values, first.values)


def test_a_compiled_model_reads_like_itself_and_is_not_compiled_again(probe: Probe) -> None:
    subject = subject_of("norms")
    compilations: list[int] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        compilations.append(1)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(subject.model.train(), backend=backend)
    compiled(subject.batch[0])
    expected = probe(subject, generator=fresh())
    count = len(compilations)
    reading = probe(Subject(compiled, subject.loss_fn, subject.batch, more=subject.more), generator=fresh())
    compiled(subject.batch[0])

    assert torch.equal(reading.values, expected.values)
    assert len(compilations) == count > 0


def test_a_probe_is_a_frozen_value(probe: Probe) -> None:
    assert probe == copy.copy(probe)
    assert type(probe).__name__ in repr(probe)
    with pytest.raises(FrozenInstanceError):
        probe.mode = "eval"
    with pytest.raises(TypeError):
        type(probe)("train")


def test_a_seed_in_place_of_a_generator_is_refused(probe: Probe) -> None:
    with pytest.raises(TypeError, match=r"draws from a torch.Generator, but a int arrived"):
        probe(subject_of("norms"), generator=0)  # type: ignore[arg-type]


def test_an_unknown_mode_is_refused(probe: Probe) -> None:
    with pytest.raises(ValueError, match="`mode` is one of 'train', 'eval', but 'training' arrived"):
        type(probe)(mode="training")


@pytest.mark.gpu
def test_readings_agree_on_a_gpu(probe: Probe) -> None:
    expected = probe(subject_of("norms"), generator=fresh())
    subject = subject_of("norms")
    model = subject.model.cuda()
    moved = [(x.cuda(), y.cuda()) for x, y in subject.batches()]
    before = torch.cuda.get_rng_state()

    reading = probe(Subject(model, subject.loss_fn, moved[0], more=moved[1:]), generator=fresh())

    torch.testing.assert_close(reading.values, expected.values)
    assert torch.equal(torch.cuda.get_rng_state(), before)
