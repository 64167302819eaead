from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from normscope.probes.tap import sites, tap, unchanged_labels


def marked() -> nn.Identity:
    site = nn.Identity()
    site.normalizer_site = "none"
    return site


def test_normalizer_sites_come_before_norms_and_norms_before_affine_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), marked())

    assert list(sites(model)) == ["2"]
    assert list(sites(model[:2])) == ["1"]
    assert list(sites(model[:1])) == ["0"]


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(2), nn.SyncBatchNorm(2), nn.InstanceNorm2d(2), nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.RMSNorm(2)],
)
def test_torch_norms_are_known(norm: nn.Module) -> None:
    assert list(sites(nn.Sequential(nn.Conv2d(1, 2, 1), norm))) == ["1"]


def test_select_chooses_among_all_modules() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), marked())

    assert list(sites(model, lambda name, module: isinstance(module, nn.ReLU))) == ["1"]


def test_a_select_that_chooses_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="returned True for none of 2 modules"):
        sites(nn.Sequential(nn.ReLU()), lambda name, module: False)


def test_a_model_without_sites_is_refused() -> None:
    with pytest.raises(ValueError, match="but Sequential has none"):
        sites(nn.Sequential(nn.ReLU()))


def test_visits_come_in_order_of_execution_and_count_shared_modules() -> None:
    shared, last = nn.Identity(), nn.Identity()
    seen: list[str] = []

    with tap({"last": last, "shared": shared}, lambda label, output: seen.append(label)):
        last(shared(shared(torch.zeros(1))))
    shared(torch.zeros(1))

    assert seen == ["shared", "shared#2", "last"]


def test_what_a_visit_returns_takes_the_outputs_place() -> None:
    module = nn.Identity()
    with tap({"": module}, lambda label, output: output + 1):
        assert module(torch.zeros(1)) == 1
    assert module(torch.zeros(1)) == 0


def test_the_input_side_sees_what_the_module_is_given_and_can_replace_it() -> None:
    module, seen = nn.ReLU(), []

    def visit(label: str, value: Tensor) -> Tensor:
        seen.append((label, value.item()))
        return value + 3

    with tap({"relu": module}, visit, side="input"):
        assert module(module(torch.tensor(-2.0))) == 4
    assert module(torch.tensor(-2.0)) == 0
    assert seen == [("relu", -2.0), ("relu#2", 1.0)]


def test_an_input_that_is_not_one_floating_tensor_is_refused() -> None:
    module = nn.Identity()
    with (
        pytest.raises(
            TypeError, match=r"A site's input is one floating-point tensor, but 'same' was given torch.int64"
        ),
        tap({"same": module}, lambda label, value: None, side="input"),
    ):
        module(torch.zeros(1, dtype=torch.int64))
    assert not module._forward_pre_hooks


def test_hooks_are_removed_when_the_block_raises() -> None:
    module = nn.Identity()
    with pytest.raises(KeyError), tap({"": module}, lambda label, output: None):
        raise KeyError
    assert not module._forward_hooks


@pytest.mark.parametrize(
    ("output", "arrived"), [((torch.zeros(1),), "tuple"), (torch.zeros(1, dtype=torch.int64), "int64")]
)
def test_an_output_that_is_not_one_floating_tensor_is_refused(output: object, arrived: str) -> None:
    class Returns(nn.Module):
        def forward(self, x: Tensor) -> object:
            return output

    module = Returns()
    with (
        pytest.raises(TypeError, match=f"'odd' returned .*{arrived}"),
        tap({"odd": module}, lambda label, output: None),
    ):
        module(torch.zeros(1))


def test_labels_are_those_of_the_earlier_pass() -> None:
    assert unchanged_labels(None, ["a", "b"]) == unchanged_labels(("a", "b"), ["a", "b"]) == ("a", "b")
    with pytest.raises(ValueError, match="none of the sites did"):
        unchanged_labels(None, [])
    with pytest.raises(ValueError, match="'b' did not run alike in two passes"):
        unchanged_labels(("a", "b"), ["a"])
    with pytest.raises(ValueError, match="did not run alike"):
        unchanged_labels(("a", "b"), ["b", "a"])


def test_an_unknown_select_is_refused() -> None:
    from normscope.probes import GradientNorm, InformationPropagation

    for kind in (GradientNorm, InformationPropagation):
        with pytest.raises(ValueError, match=r"function of \(name, module\), but 'first' arrived"):
            kind(select="first")


def test_the_input_side_sees_an_argument_given_by_keyword_and_can_replace_it() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    seen: list[float] = []

    def visit(_label: str, value: Tensor) -> Tensor | None:
        seen.append(value.item())
        return value + 1 if len(seen) == 1 else None

    with tap({"layer": module}, visit, side="input"):
        assert module(input=torch.tensor([2.0])) == 3
        assert module(input=torch.tensor([5.0])) == 5
    assert seen == [2.0, 5.0]
