from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from curvature import zoo
from curvature.oracles import Function, assert_close_to, dense, directions, products
from normscope.curvature import GGNOperator, HessianOperator

OPERATORS: dict[str, Any] = {"hessian": HessianOperator, "ggn": GGNOperator}


def network() -> nn.Module:
    return zoo.randomized(zoo.mlp(nn.BatchNorm1d))


def test_the_vector_is_the_parameters_in_the_models_order() -> None:
    model = network()
    operator = HessianOperator(model, F.cross_entropy, zoo.features())

    assert operator.names == tuple(name for name, _ in model.named_parameters())
    assert operator.size == sum(parameter.numel() for parameter in model.parameters())
    assert operator.dtype == torch.float64
    assert operator.device == torch.device("cpu")
    parts = operator.split(torch.arange(operator.size, dtype=torch.float64))
    assert {name: part.shape for name, part in parts.items()} == {n: p.shape for n, p in model.named_parameters()}
    assert torch.equal(operator.flatten(parts), torch.arange(operator.size, dtype=torch.float64))


def test_a_matrix_is_multiplied_column_by_column(generator: torch.Generator) -> None:
    operator = GGNOperator(network(), F.cross_entropy, zoo.features())
    V = torch.randn(operator.size, 2, generator=generator, dtype=torch.float64)
    assert torch.equal(operator.matmat(V), torch.stack([operator.matvec(V[:, 0]), operator.matvec(V[:, 1])], 1))


def test_a_product_does_not_change_its_vector_and_repeats(generator: torch.Generator) -> None:
    model = zoo.randomized(zoo.mlp(nn.BatchNorm1d, nn.ReLU(inplace=True)))
    for machinery in ns.curvature.MACHINERIES:
        operator = HessianOperator(model, F.cross_entropy, zoo.features(), machinery=machinery)
        v = torch.randn(operator.size, generator=generator, dtype=torch.float64)
        before = v.clone()

        first = operator.matvec(v)
        kept = first.clone()
        operator.matvec(torch.ones_like(v))

        assert torch.equal(v, before)
        assert torch.equal(first, kept)
        assert torch.equal(operator.matvec(v), kept)


@pytest.mark.parametrize("shape", [(3,), (43, 1), (1, 43)])
def test_a_vector_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    operator = HessianOperator(network(), F.cross_entropy, zoo.features())
    with pytest.raises(ValueError, match=r"vectors of shape \(43,\), but one of .* arrived"):
        operator.matvec(torch.zeros(shape, dtype=torch.float64))


def test_a_vector_of_another_dtype_is_taken_in_the_operators() -> None:
    operator = HessianOperator(network(), F.cross_entropy, zoo.features(), dtype=torch.float32)
    product = operator.matvec(torch.ones(43, dtype=torch.float64))
    assert product.dtype == torch.float32
    assert torch.equal(product, operator.matvec(torch.ones(43)))


def test_it_says_what_it_is() -> None:
    operator = HessianOperator(network(), F.cross_entropy, zoo.features(), mode="eval", machinery="double_backward")

    text = repr(operator)

    assert text.startswith("HessianOperator(size=43, mode='eval', num_examples=6, machinery='double_backward'")
    report = operator.report
    assert (report.kind, report.num_batches, report.num_parameters, report.chunking) == ("hessian", 1, 43, None)
    assert report.check.passed
    assert report.check.examples == 6
    assert report.seconds > 0
    assert not report.regularized


def test_the_constants_of_a_linearized_product_are_counted() -> None:
    operators = [
        HessianOperator(network(), F.cross_entropy, zoo.features(size), machinery="linearized") for size in (8, 800)
    ]
    few, many = (operator.report.nbytes for operator in operators)
    assert few > 0
    # At least two activations of width 4 in float64 an example, at most a few dozen.
    assert 800 * 2 * 4 * 8 < many < 800 * 50 * 4 * 8


# Batches


def unequal() -> list[tuple[Tensor, Tensor]]:
    x, y = zoo.features(9)
    return [(x[:2], y[:2]), (x[2:3], y[2:3]), (x[3:], y[3:])]


@pytest.mark.parametrize("machinery", ns.curvature.MACHINERIES)
@pytest.mark.parametrize("kind", OPERATORS)
def test_unequal_batches_are_one_big_one(kind: str, machinery: Any) -> None:
    model = zoo.randomized(zoo.mlp(nn.LayerNorm))
    expected = products(OPERATORS[kind](model, F.cross_entropy, zoo.features(9)))

    operator = OPERATORS[kind](model, F.cross_entropy, iter(unequal()), machinery=machinery)

    assert_close_to(products(operator), expected, tolerance=1e-13)
    assert (operator.report.num_examples, operator.report.num_batches) == (9, 3)


def test_a_weight_says_how_much_a_batch_counts() -> None:
    """A loss that is a mean over the positions that are not masked, of which the batches hold unequally many."""
    model = zoo.randomized(zoo.mlp(nn.LayerNorm))
    x, y = zoo.features(9)
    y[[0, 4, 5, 7]] = -100
    whole = products(HessianOperator(model, F.cross_entropy, (x, y)))
    parts = [(x[:5], y[:5]), (x[5:], y[5:])]

    by_positions = HessianOperator(model, F.cross_entropy, parts, weight=lambda batch: float((batch[1] >= 0).sum()))
    by_examples = HessianOperator(model, F.cross_entropy, parts)

    assert_close_to(products(by_positions), whole, tolerance=1e-13)
    assert (products(by_examples) - whole).abs().max() > 1e-3 * whole.abs().max()


@pytest.mark.parametrize("size", [1, 4, 9, 100])
@pytest.mark.parametrize("kind", OPERATORS)
def test_chunks_are_the_batch(kind: str, size: int) -> None:
    model = zoo.randomized(zoo.mlp(nn.LayerNorm))
    expected = products(OPERATORS[kind](model, F.cross_entropy, zoo.features(9)))

    operator = OPERATORS[kind](model, F.cross_entropy, zoo.features(9), chunking=size)

    assert_close_to(products(operator), expected, tolerance=1e-13)
    assert operator.report.num_batches == -(-9 // size)
    assert operator.report.chunking == size


def test_structured_inputs_are_chunked_along_their_examples() -> None:
    case = zoo.CASES["keyed"]
    model = zoo.randomized(case.build())
    expected = products(HessianOperator(model, case.loss, [case.batch], forward=case.forward))
    chunked = HessianOperator(model, case.loss, [case.batch], forward=case.forward, chunking=2)
    assert_close_to(products(chunked), expected, tolerance=1e-13)


@pytest.mark.parametrize("choose", ["0.*", ["0.weight", "0.bias"], lambda name, parameter: name.startswith("0.")])
def test_chosen_parameters_have_their_block_of_the_whole(choose: Any) -> None:
    model = network()
    whole = dense(HessianOperator(model, F.cross_entropy, zoo.features()))

    for machinery in ns.curvature.MACHINERIES:
        operator = HessianOperator(model, F.cross_entropy, zoo.features(), choose, machinery=machinery)
        assert operator.names == ("0.weight", "0.bias")
        assert_close_to(dense(operator), whole[:20, :20], tolerance=1e-13)


# Regularizers and the penalty


@pytest.mark.parametrize("machinery", ns.curvature.MACHINERIES)
def test_a_regularizer_is_in_by_an_argument_and_out_by_default(machinery: Any) -> None:
    model = network()
    plain = dense(HessianOperator(model, F.cross_entropy, zoo.features(), machinery=machinery))

    decayed = HessianOperator(
        model, F.cross_entropy, zoo.features(), regularizer=ns.curvature.weight_decay(0.7), machinery=machinery
    )

    weights = torch.cat([torch.full((p.numel(),), float(p.ndim > 1)) for p in model.parameters()]).double()
    assert_close_to(dense(decayed), plain + 0.7 * torch.diag(weights), tolerance=1e-13)
    assert decayed.report.regularized


def test_a_regularizer_counts_once_however_many_batches_there_are() -> None:
    model = zoo.randomized(zoo.mlp(nn.LayerNorm))
    decay = ns.curvature.weight_decay(0.7)
    expected = products(HessianOperator(model, F.cross_entropy, zoo.features(9), regularizer=decay))
    matrix = products(HessianOperator(model, F.cross_entropy, unequal(), regularizer=decay))
    assert_close_to(matrix, expected, tolerance=1e-13)


def test_the_ggn_has_no_regularizer() -> None:
    model = network()
    plain, decayed = (
        # One machinery for both: left to a trial of their own they might choose two, which differ in the last digits.
        GGNOperator(model, F.cross_entropy, zoo.features(), regularizer=regularizer, machinery="retained")
        for regularizer in (None, ns.curvature.weight_decay(0.7))
    )
    assert torch.equal(products(plain), products(decayed))


@pytest.mark.parametrize("machinery", ns.curvature.MACHINERIES)
@pytest.mark.parametrize("name", ["regnorm", "preregnorm"])
def test_regnorms_penalty_is_in_by_the_loss(name: str, machinery: Any) -> None:
    model = zoo.randomized(zoo.row_mlp(zoo.ROWS[name]))
    penalised = ns.nn.Penalised(model)
    loss = lambda outputs, targets: F.cross_entropy(outputs[0], targets) + 2.0 * outputs[1]  # noqa: E731
    function = Function(penalised, loss, zoo.features())
    without = products(HessianOperator(model, F.cross_entropy, zoo.features()))

    found = products(HessianOperator(penalised, loss, zoo.features(), machinery=machinery))

    V = directions(len(function.theta))
    assert_close_to(found, function.products_by_differences(V), tolerance=1e-6)
    assert_close_to(found, function.products_by_autograd(V), tolerance=1e-10)
    assert (found - without).abs().max() > 1e-2 * without.abs().max()
