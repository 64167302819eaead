from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from normscope.models import MLP
from normscope.probes import BatchSizeAccuracy, Reading, Subject


def fresh(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured(model: nn.Module, x: Tensor, y: Tensor, **options) -> Reading:
    return BatchSizeAccuracy(**options)(Subject(model, F.cross_entropy, (x, y)), generator=fresh())


class Above(nn.Module):
    """Predicts class 1 for what lies above the mean of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean(0)
        return torch.cat([-centered, centered], 1)


class Recorder(nn.Module):
    """Right by its inputs, which are the class; remembers the batches it saw and what was in its buffer then."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(()))
        self.seen: list[tuple[list[float], float]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.tolist(), self.state.item()))
        self.state += 1
        return F.one_hot(x.long() % 4, 4).float()


def test_pairs_normalized_by_their_own_mean_are_right_as_often_as_chance_pairs_them() -> None:
    """Of a pair with one example below 0 and one above both are right, of any other one; no batch statistics: all."""
    n, partitions = 40, 60
    x = torch.randn(n, 1, generator=fresh(1)).sort(0).values
    x = x - (x[n // 2 - 1] + x[n // 2]) / 2  # half of the examples lie on either side
    y = (x > 0).long().squeeze(1)
    reading = measured(Above(), x, y, sizes=(2,), partitions=partitions)

    alike = (n / 2 - 1) / (n - 1)
    assert reading.stderr is not None
    assert abs(reading.values.item() - (1 - alike / 2)) < 4 * reading.stderr.item()
    assert reading.stderr.item() < 0.02


def test_a_batch_of_the_whole_split_is_train_mode_on_all_of_it() -> None:
    model = MLP(6, 4, depth=2, width=8, normalizer=ns.normalizer("batchnorm"), generator=fresh())
    x, y = torch.randn(30, 6, generator=fresh(1)), torch.arange(30) % 4
    expected = (model.train()(x).argmax(1) == y).double().mean()
    assert measured(model, x, y, sizes=(30,)).values.item() == pytest.approx(expected.item())


def test_in_eval_mode_the_size_does_not_matter_and_the_accuracy_is_the_usual_one() -> None:
    model = MLP(6, 4, depth=2, width=8, normalizer=ns.normalizer("batchnorm"), generator=fresh())
    x, y = torch.randn(32, 6, generator=fresh(1)), torch.arange(32) % 4
    model(x)
    expected = (model.eval()(x).argmax(1) == y).double().mean().item()
    assert measured(model, x, y, sizes=(1, 2, 8, 32), mode="eval").values.tolist() == [expected] * 4


def test_every_batch_is_whole_and_random_and_starts_from_the_models_own_buffers() -> None:
    model, x = Recorder(), torch.arange(11.0)
    reading = measured(model, x, torch.arange(11) % 4, sizes=(2, 4), partitions=3)

    assert reading.values.tolist() == [1.0, 1.0]
    assert reading.labels == {"batch_size": ("2", "4")}
    assert [len(batch) for batch, _ in model.seen] == 3 * ([2] * 5 + [4] * 2)
    assert {state for _, state in model.seen} == {0.0}
    orders = []
    for start in (0, 7, 14):
        batches = [batch for batch, _ in model.seen[start : start + 7]]
        pairs, fours = ([example for batch in part for example in batch] for part in (batches[:5], batches[5:]))
        assert len(set(pairs)) == 10
        assert pairs[:8] == fours  # the same order for both sizes
        orders.append(pairs)
    assert sorted(orders[0]) != orders[0] != orders[1] != orders[2]


def test_a_buffer_that_a_forward_replaces_is_the_models_own_for_every_batch_too() -> None:
    class Replacing(Recorder):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            self.state = self.state + 1
            return y

    model = Replacing()
    measured(model, torch.arange(6.0), torch.arange(6) % 4, sizes=(2,))
    assert [state for _, state in model.seen] == [0.0] * 3


def test_a_model_that_differentiates_in_its_forward_is_right_as_often_as_when_it_is_called() -> None:
    class Descending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.energy = MLP(3, 1, depth=2, width=8, normalizer=ns.normalizer("batchnorm"), generator=fresh())

        def forward(self, x: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            (force,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
            return -force

    model, x, y = Descending(), torch.randn(24, 3, generator=fresh(1)), torch.arange(24) % 3
    expected = (model(x).argmax(1) == y).double().mean().item()
    assert measured(model, x, y, sizes=(24,)).values.item() == pytest.approx(expected)


def test_the_order_depends_on_the_generator() -> None:
    seen = []
    for seed in (0, 0, 1):
        model = Recorder()
        subject = Subject(model, F.cross_entropy, (torch.arange(12.0), torch.arange(12) % 4))
        BatchSizeAccuracy(sizes=(12,))(subject, generator=fresh(seed))
        seen.append(model.seen[0][0])
    assert seen[0] == seen[1] != seen[2]


def test_the_last_batch_that_is_not_whole_is_left_out_and_all_others_count_once() -> None:
    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.one_hot(torch.zeros(len(x), dtype=torch.long), 2).float()

    y = torch.tensor([0, 0, 0, 1, 1])
    values = measured(Zero(), torch.zeros(5, 1), y, sizes=(3, 5)).values
    assert values[1] == pytest.approx(0.6)
    assert values[0].item() * 3 == pytest.approx(round(values[0].item() * 3))


def test_tokens_count_one_by_one_and_those_without_a_target_not() -> None:
    class Echo(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return F.one_hot(tokens, 5).float()

    tokens = torch.randint(5, (6, 3), generator=fresh())
    targets = tokens.clone()
    targets[:, 0] = -100
    targets[:, 2] = (tokens[:, 2] + 1) % 5
    assert measured(Echo(), tokens, targets, sizes=(2, 6)).values.tolist() == [0.5, 0.5]


def test_partitions_and_batches_are_the_samples_of_the_standard_error() -> None:
    x, y = torch.randn(12, 1, generator=fresh(1)), torch.arange(12) % 2
    assert measured(Above(), x, y, sizes=(2,)).stderr is None
    assert measured(Above(), x, y, sizes=(2,), partitions=4).stderr is not None


def test_an_output_that_is_not_finite_makes_its_sizes_not_a_number() -> None:
    class Diverged(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, -x], 1) / (len(x) != 2)

    values = measured(Diverged(), torch.ones(6, 1), torch.zeros(6, dtype=torch.long), sizes=(2, 3)).values
    assert values[0].isnan()
    assert values[1] == 1.0


def test_no_graph_is_recorded() -> None:
    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            assert not y.requires_grad
            return y

    measured(Watched(3, 2), torch.randn(4, 3, generator=fresh()), torch.zeros(4, dtype=torch.long), sizes=(2,))


def test_inputs_may_be_any_tree_with_what_belongs_to_no_example() -> None:
    class Tree(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return F.one_hot(inputs["x"], 4).float() * inputs["scale"]

    y = torch.arange(6) % 4
    subject = Subject(Tree(), F.cross_entropy, ({"x": y.clone(), "scale": torch.ones(4)}, y))
    assert BatchSizeAccuracy(sizes=(2,))(subject, generator=fresh()).values.tolist() == [1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ()}, r"`sizes` are integers of at least 1, but \(\) arrived"),
        ({"sizes": (0, 2)}, r"`sizes` are integers of at least 1, but \(0, 2\) arrived"),
        ({"sizes": (2.0,)}, r"`sizes` are integers"),
        ({"partitions": 0}, "`partitions` is at least 1, but 0 arrived"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchSizeAccuracy(**options)


def test_what_does_not_fit_is_refused_with_the_remedy() -> None:
    x, y = torch.zeros(6, 1), torch.zeros(6, dtype=torch.long)
    with pytest.raises(ValueError, match=r"6 examples, but size 8 was asked for\. Leave it out"):
        measured(Above(), x, y, sizes=(2, 8))
    for targets in (y.float(), y[:5], None):
        with pytest.raises(ValueError, match="class indices, one for each of 6 examples"):
            measured(Above(), x, targets, sizes=(2,))
    with pytest.raises(ValueError, match=r"outputs of shape \(2, classes\), but \(2, 3, 4\) arrived"):
        measured(nn.Unflatten(1, (3, 4)), torch.zeros(6, 12), y, sizes=(2,))
