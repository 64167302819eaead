"""The moments of sites as rows: every quantity at every depth, with its spread over batches."""

from __future__ import annotations

import numpy as np

from normscope.probes.moments import QUANTITIES
from normscope.study import Data, Experiment, Measurement, Model, Norm, Study, load

from .conftest import run


def test_each_quantity_is_written_by_depth_with_its_standard_error(tmp_path):
    one = Experiment(
        id="a",
        data=Data(name="digits", max_train=48, max_eval=16),
        model=Model(family="mlp", options={"depth": 3, "width": 8}),
        norm=Norm("layernorm"),
        seed=0,
        batch_size=8,
        measurements=(Measurement(probe="moments", at=(0,), options={"batches": 3}),),
    )
    rows = load(run(Study(paper="some-paper", item="table2", scale="smoke", experiments=(one,)), tmp_path))
    assert set(rows["probe"]) == {"moments"}
    assert rows.groupby("name")["depth"].apply(list).to_dict() == {name: [1, 2, 3] for name in QUANTITIES}
    assert np.isfinite(rows["stderr"]).all()
    by_name = rows.groupby("name")["value"].max()
    assert by_name["layer_mean"] < 1e-6  # LayerNorm centers there
    assert by_name["batch_mean"] > 0.1  # and not here
