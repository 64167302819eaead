from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from normscope.probes import BatchRank, Reading, Subject

F64 = torch.float64


def read(probe: BatchRank, model: nn.Module, *inputs: object, forward: object = None) -> Reading:
    batches = [(one, None) for one in inputs]
    subject = Subject(model, lambda y, _: y.mean(), batches[0], more=batches[1:], forward=forward)  # type: ignore[arg-type]
    return probe(subject, generator=torch.Generator().manual_seed(0))


def test_ranks_are_those_of_the_inputs_and_of_every_site(generator: torch.Generator) -> None:
    first, second = (nn.Linear(n, m, bias=False, dtype=F64) for n, m in ((20, 8), (8, 20)))
    x = torch.randn(12, 20, generator=generator, dtype=F64)
    x[5:] = x[:7] @ torch.randn(20, 20, generator=generator, dtype=F64).tril(-19)  # one more direction at the most

    reading = read(BatchRank(), nn.Sequential(first, second), x)
    assert reading.labels["layer"] == ("input", "0", "1")
    assert reading.values.tolist() == [float(torch.linalg.matrix_rank(x)), 6.0, 6.0]
    assert (reading.name, reading.unit) == ("batch_rank", "1")


@pytest.mark.parametrize("repeats", [1, 2, 9])
def test_repeated_examples_take_their_number_off_the_rank(repeats: int, generator: torch.Generator) -> None:
    x = torch.randn(9, 30, generator=generator)
    x[:repeats] = x[0]
    model = nn.Sequential(nn.Linear(30, 30), nn.BatchNorm1d(30))
    values = read(BatchRank(), model, x).values
    assert values[0] == 10 - repeats


def test_small_directions_do_not_count_below_the_precision_of_the_gram_matrix(generator: torch.Generator) -> None:
    x = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=F64)).Q * torch.logspace(0, -15, 16, dtype=F64)
    dtypes = {"float64": F64, "float32": torch.float32}
    tolerance = {name: math.sqrt(16 * torch.finfo(dtype).eps) for name, dtype in dtypes.items()}
    for precision, smallest in tolerance.items():
        expected = sum(10.0**-k > smallest for k in range(16))
        probe = BatchRank(precision=precision, select=lambda name, _: name == "0")  # type: ignore[arg-type]
        at_input, at_site = read(probe, nn.Sequential(nn.Identity()), x).values.tolist()
        assert abs(at_input - expected) <= 1
        assert at_site == at_input
    assert tolerance["float32"] > 1e4 * tolerance["float64"]


def test_the_cosine_is_the_mean_over_pairs(generator: torch.Generator) -> None:
    x = torch.randn(6, 2, 3, generator=generator, dtype=F64)
    unit = nn.functional.normalize(x.flatten(1), dim=1)
    expected = sum((unit[i] @ unit[j]).item() for i in range(6) for j in range(6) if i != j) / 30
    model = nn.Sequential(nn.Identity(), nn.LayerNorm(3, dtype=F64))
    probe = BatchRank(statistic="cosine", select=lambda name, _: name == "0")

    reading = read(probe, model, x)
    assert reading.name == "batch_cosine"
    assert reading.values.tolist() == pytest.approx([expected, expected], abs=1e-12)
    assert read(probe, model, 1e200 * x[:1].expand(4, 2, 3)).values.tolist() == pytest.approx([1.0, 1.0])
    assert read(probe, model, x[:1]).values.isnan().all()


def test_all_floating_inputs_count_and_others_do_not(generator: torch.Generator) -> None:
    a, b = torch.randn(6, 2, generator=generator), torch.randn(6, 3, generator=generator)
    tokens, scale = torch.zeros(6, dtype=torch.int64), torch.ones(3)

    def forward(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return model(inputs[-1])

    layer = nn.Linear(3, 1)
    together = read(BatchRank(), layer, (a, tokens, scale, b), forward=forward)
    assert together.labels["layer"] == ("input", "Linear")
    assert together.values.tolist() == [5.0, 1.0]
    assert read(BatchRank(), layer, (tokens, b.double().float()), forward=forward).values.tolist() == [3.0, 1.0]


def test_tokens_have_no_rank_but_the_sites_have() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4, elementwise_affine=False))
    reading = read(BatchRank(), model, torch.arange(8).reshape(4, 2))
    assert reading.labels["layer"] == ("1",)
    assert reading.values.tolist() == [4.0]


def test_a_convolutions_output_is_flattened_whatever_its_size(generator: torch.Generator) -> None:
    model = nn.Sequential(nn.Conv2d(1, 20, 1), nn.ReLU())
    x = torch.randn(5, 1, 32, 32, generator=generator)  # more numbers an example than are converted at a time
    flat = model[0](x).flatten(1).double()
    expected = nn.functional.normalize(flat, dim=1)
    off_diagonal = ((expected @ expected.T).sum() - 5) / 20
    reading = read(BatchRank(statistic="cosine"), model, x)
    assert reading.values[1].item() == pytest.approx(off_diagonal.item(), abs=1e-12)


def test_a_value_that_is_not_finite_makes_its_own_rank_nan(generator: torch.Generator) -> None:
    x = torch.randn(4, 3, generator=generator)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    values = read(BatchRank(), model, x).values
    assert values[:2].tolist() == [3.0, 3.0]
    assert values[2].isnan()


def test_standard_errors_are_over_batches(generator: torch.Generator) -> None:
    batches = [torch.randn(6, 4, generator=generator) for _ in range(3)]
    batches[2][1:] = batches[2][:1]
    reading = read(BatchRank(), nn.Linear(4, 4, bias=False), *batches)
    assert reading.values.tolist() == [3.0, 3.0]  # of 4, 4 and 1
    assert reading.stderr is not None
    assert reading.stderr.tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("field", ["statistic", "precision"])
def test_unknown_choices_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}` is one of .* but 'both' arrived"):
        BatchRank(**{field: "both"})  # type: ignore[arg-type]


def test_a_single_number_is_refused_by_name() -> None:
    class Total(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum()

    with pytest.raises(ValueError, match="one row for each example, but '0' returned a single number"):
        read(BatchRank(select=lambda name, _: name == "0"), nn.Sequential(Total()), torch.ones(3, 2))


def test_only_inputs_with_a_row_for_each_example_count(generator: torch.Generator) -> None:
    """Whatever comes first among the real ones: a scale of three numbers is no batch of three examples."""
    tokens, scale, x = torch.zeros(6, dtype=torch.int64), torch.ones(3), torch.randn(6, 4, generator=generator)
    forward = lambda model, inputs: model(inputs[-1])  # noqa: E731
    reading = read(BatchRank(), nn.Linear(4, 4), (tokens, scale, x), forward=forward)
    assert reading.values.tolist() == [4.0, 4.0]


def test_a_module_called_input_is_not_the_input(generator: torch.Generator) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input, self.output = nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.output(self.input(x))

    reading = read(BatchRank(), Named(), torch.randn(6, 4, generator=generator))
    assert reading.labels["layer"] == ("input", "input#1", "output")
    assert reading.values.tolist() == [4.0, 2.0, 2.0]


def test_where_no_site_runs_there_is_no_reading_by_depth(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="none of the sites did"):
        read(BatchRank(), nn.Linear(4, 4), torch.randn(6, 4, generator=generator), forward=lambda model, x: x)
