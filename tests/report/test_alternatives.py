"""The decisions an experiment left out are predicted, and only those."""

from pathlib import Path

import pytest
from synthetic import SMALL, grid, write_experiment, write_results

from footprint.predict.prediction import predict
from footprint.report.page.empty import NoRunsError
from footprint.report.reading import selection
from footprint.report.tables import alternatives
from footprint.spec.run import RunSpec

SPECS = grid(regime=("full", "lora", "qlora"), batch=(4, 2))


@pytest.fixture
def folder(tmp_path) -> Path:
    write_results(tmp_path, SPECS)
    write_experiment(tmp_path, SPECS)
    return tmp_path


def test_every_decision_that_was_not_measured_is_predicted(folder):
    rows = alternatives.table(folder, selection.load(folder)).raw.set_index(["from", "change"])
    assert set(rows.loc["Full FT"].index) == {"32 tokens", "amp precision", "bf16 precision", "fp32 precision"}
    assert {"adapters on qv", "adapters on attention"} <= set(rows.loc["LoRA r=8"].index)
    assert "nf4-double" in rows.loc["QLoRA r=8"].index
    assert "nf4-double" not in rows.loc["LoRA r=8"].index
    spec = RunSpec(model=SMALL, regime="lora", targets="qv", seq=64)
    assert rows.loc[("LoRA r=8", "adapters on qv"), "peak_bytes"] == predict(spec)["peak_bytes"]
    saving = rows.loc["LoRA r=8", "difference"].to_list()
    assert saving == sorted(saving)


def test_without_a_configuration_there_is_one_sentence(tmp_path):
    write_results(tmp_path, SPECS)
    with pytest.raises(NoRunsError, match=r"^The configuration was not kept[^.]+\.$"):
        alternatives.table(tmp_path, selection.load(tmp_path))


def test_one_sequence_of_one_token_has_no_half(tmp_path):
    specs = grid(regime=("full",), batch=(1,), seq=(1,))
    write_results(tmp_path, specs)
    write_experiment(tmp_path, specs)
    changes = alternatives.table(tmp_path, selection.load(tmp_path)).raw["change"]
    assert set(changes) == {"amp precision", "bf16 precision", "fp32 precision"}
