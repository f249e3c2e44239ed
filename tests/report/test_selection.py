"""Which runs a section shows, for grids of any shape."""

import pytest
from synthetic import ABLATION, SMALL, grid, write_experiment, write_results

from footprint.report.page.words import percent
from footprint.report.reading import effects, selection
from footprint.report.sentences import findings, titles
from footprint.report.tables import devices
from footprint.spec.presets import PRESETS


def loaded(directory, specs, status=lambda spec: "ok"):
    """The runs of these specs as the report reads them."""
    return selection.load(write_results(directory, specs, status))


def test_the_headline_is_the_seeds_three_rows(tmp_path):
    rows = selection.headline(loaded(tmp_path, ABLATION))
    assert [selection.setting(row) for _, row in rows.iterrows()] == ["Full FT", "LoRA r=8", "QLoRA r=8"]
    assert set(rows["checkpointing"]) == {"none"}
    assert set(rows["targets"]) == {"none", "all-linear"}


def test_the_headline_compares_like_with_like(tmp_path):
    specs = grid(regime=("full",), batch=(4,)) + grid(regime=("full", "lora"), batch=(1,), rank=(3,))
    rows = selection.headline(loaded(tmp_path, specs))
    assert [selection.setting(row) for _, row in rows.iterrows()] == ["Full FT", "LoRA r=3"]
    assert set(rows["batch"]) == {1}


def test_the_headline_prefers_settings_that_finished(tmp_path):
    specs = grid(regime=("full", "lora"), checkpointing=("none", "block"))
    runs = loaded(tmp_path, specs, lambda spec: "oom" if spec.checkpointing == "none" else "ok")
    assert set(selection.headline(runs)["checkpointing"]) == {"block"}


def test_a_name_tells_only_what_differs(tmp_path):
    runs = loaded(tmp_path, grid(regime=("full", "lora"), checkpointing=("none", "block")))
    names = [selection.label(run, selection.varying(runs)) for _, run in runs.iterrows()]
    assert names == [
        "Full FT, no checkpoints",
        "Full FT, block checkpoints",
        "LoRA r=8, no checkpoints",
        "LoRA r=8, block checkpoints",
    ]
    assert "minigpt-3m" in selection.in_common(runs)
    assert "checkpoints" not in selection.in_common(runs)


def test_names_of_different_runs_differ(tmp_path):
    specs = [
        spec
        for model in (SMALL, PRESETS["minillama-3m"])
        for spec in grid(
            model,
            regime=("full", "qlora"),
            rank=(2, 4),
            quantization=("nf4", "nf4-double"),
            precision=("mixed", "fp32"),
        )
    ]
    runs = loaded(tmp_path, specs)
    names = [selection.label(run, selection.varying(runs)) for _, run in runs.iterrows()]
    assert len(set(names)) == len(specs)


def test_advice_names_the_two_decisions_that_save_most(tmp_path):
    sentence = findings.advice(loaded(tmp_path, ABLATION))
    assert sentence.startswith("Change first: going from Full FT to QLoRA r=8 saves ")
    assert "; then going from no checkpoints to block checkpoints saves " in sentence


@pytest.mark.parametrize("status", ["oom", "diverged"])
def test_runs_that_did_not_finish_give_no_advice(tmp_path, status):
    runs = loaded(tmp_path, grid(regime=("full", "lora")), lambda spec: status)
    assert "cannot be told" in findings.advice(runs)
    assert "none finished" in findings.accuracy(runs)


def test_an_exact_prediction_is_called_exact(tmp_path):
    runs = loaded(tmp_path, ABLATION[:3])
    assert "off by" in findings.accuracy(runs)
    runs["peak_relative_error"] = 0.0
    assert findings.accuracy(runs).startswith("The prediction is exact to the byte in 3 measured runs")


def test_the_same_experiment_on_a_card_stands_beside_and_a_half_made_one_is_left_out_with_a_sentence(tmp_path):
    here, card, unfinished, stranger = (tmp_path / name for name in ("cpu", "t4-rehearsed", "a10g-rehearsed", "else"))
    specs = grid(regime=("full", "lora", "qlora"))
    for directory in (here, card, unfinished, stranger):
        write_results(directory, specs, source="measured" if directory == here else "rehearsed")
        if directory != stranger:
            write_experiment(directory, specs)
    lines = (unfinished / "measurements.csv").read_text().splitlines(keepends=True)
    (unfinished / "measurements.csv").write_text("".join(lines[:-1]))
    runs = selection.load(here)
    beside, left_out = devices.others(None, here, runs)
    assert list(beside) == ["t4-rehearsed"]
    assert left_out == [f"{unfinished}: comparison.csv and measurements.csv hold different runs; gather them again"]
    shown = devices.side_by_side("cpu", runs, beside).shown
    assert list(shown.columns) == ["Device", "Source", "Full FT", "LoRA r=8", "QLoRA r=8"]
    rows = list(zip(shown["Device"], shown["Source"], strict=True))
    assert rows == [("cpu", "measured"), ("t4", "rehearsed"), ("any", "textbook")]


def test_several_gpus_are_named_and_one_is_not(tmp_path):
    one, two = grid(regime=("full",)), grid(regime=("full",), gpus=(2,), sharding=("ddp", "fsdp"))
    alone = loaded(tmp_path, one)
    assert "GPU" not in selection.in_common(alone)
    assert selection.axis_text("gpus", two[0].gpus) == "2 GPUs"
    assert selection.axis_text("gpus", one[0].gpus) == "1 GPU"


def test_a_rank_weighs_more_the_fewer_other_bytes_there_are(tmp_path):
    specs = grid(regime=("full", "lora", "qlora"), rank=(2, 32), checkpointing=("none", "block"))
    runs = loaded(tmp_path, specs)
    growth = effects.growth_by_rank(runs)
    assert len(growth) == 4
    low, high = growth.min(), growth.max()
    assert titles.ranks(runs) == f"Ranks: from rank 2 to 32 a peak grows by {percent(low)} to {percent(high)}"
    said = findings.extremes_by_rank(runs)
    assert said.startswith("The rank weighs least in LoRA, no checkpoints and most in QLoRA, block checkpoints")
    one = runs[((runs["regime"] == "full") | (runs["rank"] == 2)).to_numpy()]
    assert titles.ranks(one) == "Ranks"
    assert findings.extremes_by_rank(one) is None
