"""The section on the same run in Transformers: what lies in the reference, and what is said of it."""

import pandas as pd
import pytest
from clone import REPOSITORY
from synthetic import grid, measured_row

from footprint.jobs.host_memory import under_minigpt
from footprint.predict.prediction import predict
from footprint.report.page.empty import NoRunsError
from footprint.report.reading.stacks import Rehearsals, differences, effects, load
from footprint.report.render import headline, render
from footprint.report.tables.stacks import CAUSES
from footprint.spec.columns import MEASUREMENTS, PREDICTIONS
from footprint.spec.presets import PRESETS
from footprint.tables.compare import compare
from footprint.tables.rows import table, write_table

REFERENCE = REPOSITORY / "results" / "reference"


def rehearsals(sizes: dict[str, dict[str, int]]) -> Rehearsals:
    """Of one regime: bytes of activations by run and tensor."""
    rows = [
        {"regime": "lora", "run": run, "kind": "activations", "tensor": tensor, "bytes": size}
        for run, tensors in sizes.items()
        for tensor, size in tensors.items()
    ]
    runs = [{"regime": "lora", "run": run, "peak_bytes": sum(tensors.values())} for run, tensors in sizes.items()]
    return Rehearsals(pd.DataFrame(runs), pd.DataFrame(rows))


def test_a_tensor_is_removed_by_the_setting_without_which_most_of_it_is_gone():
    found = rehearsals(
        {
            "minigpt": {"input": 100, "mask": 0},
            "transformers": {"input": 100, "mask": 50},
            "no LoRA dropout": {"input": 100, "mask": 10},
            "no clipping": {"input": 100, "mask": 30},
            "checkpointing block": {"input": 0, "mask": 0},
        }
    )
    (row,) = differences(found).to_dict("records")
    assert (row["tensor"], row["minigpt_bytes"], row["transformers_bytes"]) == ("mask", 0, 50)
    assert (row["setting"], row["removed_bytes"]) == ("no LoRA dropout", 40)


def test_what_no_setting_removes_and_what_minigpt_has_more_of_name_none():
    found = rehearsals(
        {
            "minigpt": {"table": 90, "copy": 0},
            "transformers": {"table": 10, "copy": 60},
            "no clipping": {"table": 0, "copy": 50},
        }
    )
    assert [(row["tensor"], row["setting"]) for row in differences(found).to_dict("records")] == [
        ("table", ""),
        ("copy", ""),
    ]


def test_a_setting_has_no_effect_in_a_regime_without_it():
    changes = dict(effects(load(REFERENCE)))
    assert changes["not prepared"]["lora"] is None
    assert changes["not prepared"]["qlora"] < 0


def test_the_named_tensors_explain_the_difference_of_the_peaks():
    """What is too small to be named, and what the allocator rounds, is below two per cent of the peak."""
    found = load(REFERENCE)
    apart = differences(found)
    for regime in ("full", "lora", "qlora"):
        rows = apart[apart["regime"] == regime]
        named = int((rows["transformers_bytes"] - rows["minigpt_bytes"]).sum())
        peaks = [found.peak(regime, stack) for stack in ("minigpt", "transformers")]
        assert named == pytest.approx(peaks[1] - peaks[0], abs=0.02 * peaks[0])


def test_every_setting_that_removes_something_says_what():
    assert set(differences(load(REFERENCE))["setting"]) - {""} <= set(CAUSES)


def test_without_rehearsals_in_the_reference_the_section_is_one_sentence(tmp_path):
    with pytest.raises(NoRunsError, match="No rehearsals of both stacks"):
        load(tmp_path)


def test_an_experiment_of_transformers_alone_has_a_page_and_lines_for_the_terminal(tmp_path):
    axes = {"regime": ("full", "lora"), "precision": ("amp",), "stack": ("transformers",)}
    rows = [
        measured_row(spec, predict(under_minigpt(spec)), "ok") | spec.axes()
        for spec in grid(PRESETS["minillama-3m"], **axes)
    ]
    measurements, predictions = table(rows, MEASUREMENTS), table([], PREDICTIONS)
    write_table(tmp_path / "measurements.csv", measurements)
    write_table(tmp_path / "predictions.csv", predictions)
    write_table(tmp_path / "comparison.csv", compare(measurements, predictions))
    assert headline(tmp_path).startswith("Under Transformers' Trainer one training step peaks at ")
    render(tmp_path, output=tmp_path / "report.html", experiment="theirs", device="cpu", engine="nbconvert")
    page = " ".join((tmp_path / "report.html").read_text().split())
    assert "<strong>2 training runs</strong> of minillama-3m" in page
    assert "Every run under Transformers" in page
    assert "predicted to the byte" not in page
