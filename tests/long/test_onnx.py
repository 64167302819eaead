"""Converted models leave torch: what `torch.onnx.export` writes gives the same outputs in another runtime."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import normscope as ns

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore"),  # of the exporter
]


def network() -> nn.Module:
    layers = (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
    )
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


@pytest.mark.parametrize("row", [row.name for row in ns.normalizers()])
def test_an_exported_model_gives_the_same_outputs(row, generator):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    from onnx import reference

    inputs = torch.randn(4, 3, 8, 8, generator=generator)
    model = ns.convert_norm(network(), row, example_inputs=inputs).model
    for _ in range(2):  # so that running statistics are not those of the start
        model(inputs)
    model.eval()
    exported = torch.onnx.export(model, (inputs,), dynamo=True, verbose=False)
    assert exported is not None
    proto = exported.model_proto
    onnx.checker.check_model(proto)
    (outputs,) = reference.ReferenceEvaluator(proto).run(None, {proto.graph.input[0].name: inputs.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs), model(inputs), rtol=1e-5, atol=1e-5)
