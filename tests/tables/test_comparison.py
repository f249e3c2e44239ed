"""comparison.csv: the join of measurement and prediction."""

import pandas as pd
import pytest
from synthetic import ABLATION, DEVIATION, HOSTILE, grid, measured_row, write_results

from footprint.errors import FootprintError
from footprint.predict.prediction import predict_many
from footprint.spec.columns import COMPARISON, MEASUREMENTS, PREDICTIONS, SHARED
from footprint.spec.run import AXES
from footprint.tables.compare import compare
from footprint.tables.rows import read_table, table


@pytest.fixture(name="tables")
def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    specs = grid(regime=("full", "lora"), checkpointing=("none", "block"))
    predicted = predict_many(specs)
    rows = [measured_row(spec, row, "ok") for spec, row in zip(specs, predicted, strict=True)]
    return table(rows, MEASUREMENTS), table(predicted, PREDICTIONS)


def test_every_shared_column_stands_once_measured_and_once_predicted(tables):
    joined = compare(*tables)
    assert tuple(joined.columns) == COMPARISON
    assert list(joined.columns[: len(AXES)]) == list(AXES)
    for name in SHARED:
        assert joined[f"{name}_measured"].tolist() == tables[0][name].tolist()
        assert joined[f"{name}_predicted"].tolist() == tables[1][name].tolist()


def test_errors_are_relative_to_what_was_measured(tables):
    joined = compare(*tables)
    assert joined["peak_relative_error"].tolist() == pytest.approx([1 / DEVIATION - 1] * len(joined), abs=1e-7)
    expected = tables[1]["textbook_bytes"] / tables[0]["peak_bytes"] - 1
    assert joined["textbook_relative_error"].tolist() == expected.tolist()


def test_runs_keep_the_order_of_the_measurements(tables):
    measurements, predictions = tables
    backwards = measurements.iloc[::-1].reset_index(drop=True)
    assert compare(backwards, predictions)[list(AXES)].equals(backwards[list(AXES)])


def test_a_run_under_transformers_keeps_its_row_and_has_no_prediction(tables):
    measurements, predictions = tables
    theirs = measurements.assign(stack="transformers")
    joined = compare(pd.concat([measurements, theirs], ignore_index=True), predictions)
    assert joined["stack"].tolist() == ["minigpt"] * len(measurements) + ["transformers"] * len(theirs)
    for name in ("peak_bytes_predicted", "textbook_bytes", "peak_relative_error"):
        assert joined[name].notna().tolist() == [True] * len(measurements) + [False] * len(theirs)
    assert joined["peak_bytes_measured"].notna().all()


def test_an_oom_keeps_its_row_and_its_prediction_but_has_no_error(tmp_path):
    write_results(tmp_path, ABLATION[:2], status=lambda spec: "oom")
    joined = read_table(tmp_path / "comparison.csv")
    assert joined["status"].tolist() == ["oom", "oom"]
    assert joined["peak_bytes_measured"].isna().all()
    assert joined["peak_relative_error"].isna().all()
    assert joined["peak_bytes_predicted"].notna().all()


def test_bytes_are_written_as_integers_beside_a_run_that_has_none(tmp_path):
    write_results(tmp_path, ABLATION[:3], status=lambda spec: "oom" if spec == ABLATION[0] else "ok")
    text = pd.read_csv(tmp_path / "comparison.csv", dtype=str)
    columns = [name for name in text.columns if "_bytes" in name]
    assert not text[columns].stack().str.contains(r"[.e]").any()


@pytest.mark.parametrize(("short", "lacking"), [(0, "measurement"), (1, "prediction")])
def test_a_run_that_only_one_table_has_is_named(tables, short, lacking):
    both = list(tables)
    both[short] = both[short].iloc[1:]
    with pytest.raises(FootprintError, match=f"1 of 4 runs have no {lacking}, the first is model minigpt-3m"):
        compare(*both)


@pytest.mark.parametrize("which", [0, 1])
def test_a_run_that_appears_twice_is_named(tables, which):
    both = list(tables)
    both[which] = pd.concat([both[which], both[which].iloc[:1]])
    with pytest.raises(FootprintError, match="appears more than once"):
        compare(*both)


@pytest.mark.parametrize(("which", "column"), [(0, "peak_bytes"), (1, "textbook_bytes"), (1, "seq")])
def test_a_missing_column_is_named(tables, which, column):
    both = list(tables)
    both[which] = both[which].drop(columns=column)
    with pytest.raises(FootprintError, match=f"lacks the columns {column}"):
        compare(*both)


def test_a_model_may_be_called_anything(tmp_path):
    write_results(tmp_path, grid(HOSTILE, regime=("full", "qlora")))
    assert set(read_table(tmp_path / "comparison.csv")["model"]) == {HOSTILE.name}
