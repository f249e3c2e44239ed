"""An experiment on a card that is not here: the same workflow, in which no row is called measured."""

import json

import pytest
from clone import GRID, Clone

from footprint.spec.cards import find
from footprint.spec.columns import TIMES
from footprint.tables.rows import read_table
from rehearsal import PYTHON, needs_cuda_build

pytestmark = [needs_cuda_build, pytest.mark.slow]

UNKNOWN = ["loss_first", "loss_last", *TIMES]
BUCKETS = ("weights", "gradients", "optimizer", "activations")
HERE = {"FOOTPRINT_REHEARSAL_PYTHON": str(PYTHON)}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """A clone whose experiment was rehearsed on a T4."""
    clone = Clone.make(tmp_path_factory.mktemp("rehearsed"))
    said = clone.snakemake("--profile", "rehearsal", **HERE)
    return clone, said


def results(clone, card):
    return clone.root / "results" / "tiny" / f"{card}-rehearsed"


def rows(clone, card):
    return [json.loads(path.read_text()) for path in sorted((results(clone, card) / "runs").glob("*.json"))]


def test_every_row_says_that_it_was_rehearsed_and_on_which_card(rehearsed):
    found = rows(rehearsed[0], "t4")
    assert len(found) == 3
    for row in found:
        assert (row["status"], row["source"], row["card"], row["device_name"]) == ("ok", "rehearsed", "t4", "Tesla T4")
        assert (row["host_driver"], [row[name] for name in UNKNOWN]) == ("stand-in", [None] * len(UNKNOWN))
        assert row["requested_peak_bytes"] <= row["peak_bytes"] <= row["reserved_peak_bytes"]
        # What the card shows is what the allocator holds, and the context: that of the catalogue.
        assert row["process_peak_bytes"] >= row["reserved_peak_bytes"] + find("t4").context


def test_the_word_stands_in_the_terminal_and_on_the_page(rehearsed):
    clone, said = rehearsed
    assert "3 rehearsed runs" in said
    page = (results(clone, "t4") / "report.html").read_text()
    assert "Rehearsed peak" in page
    assert "Measured peak" not in page
    assert ">+nan %<" not in page


def test_the_manifest_gives_the_command_that_rehearses_again(rehearsed):
    told = json.loads((results(rehearsed[0], "t4") / "manifest.json").read_text())
    assert (told["device"], told["card"]) == ("cuda", "t4")
    assert told["again"].startswith("snakemake --profile rehearsal ")


def test_verify_carries_rehearsals_out_again_to_the_byte(rehearsed, monkeypatch):
    for name, value in HERE.items():
        monkeypatch.setenv(name, value)
    done = rehearsed[0].footprint("verify", "--experiment", "tiny", "--device", "t4-rehearsed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("columns the same") == 3


def test_rows_of_another_card_are_refused_and_made_again(rehearsed):
    """A run file that was copied from one card's folder to another's does not pass for the other's."""
    clone, _ = rehearsed
    run = next((results(clone, "t4") / "runs").glob("*.json"))
    clone.snakemake("--profile", "rehearsal", "--config", "card=rtx-3060", **HERE)
    (results(clone, "rtx-3060") / "runs" / run.name).write_text(run.read_text())
    told = ["--profile", "rehearsal", "--config", "card=rtx-3060", "--forcerun", "gather"]
    said = clone.snakemake(*told, status=1, **HERE)
    assert "was measured with card t4, but this experiment has rtx-3060" in said


def test_runs_over_several_gpus_stand_on_the_page_with_what_was_rehearsed_of_the_first_rank_and_the_last(tmp_path):
    clone = Clone.make(tmp_path)
    shared = {"batch": 6, "gpus": 3, "sharding": ["ddp", "fsdp"]}
    clone.configure(card="a10g", grids=[GRID | {"regime": ["full", "qlora"]} | shared])
    clone.snakemake("--profile", "rehearsal", **HERE)
    found = {(row["regime"], row["sharding"]): row for row in rows(clone, "a10g")}
    assert {row["gpus"] for row in found.values()} == {3}
    # Three do not divide the rows of every tensor: the first rank holds most of them.
    assert found["full", "ddp"]["peak_spread_bytes"] == 0
    assert found["full", "fsdp"]["peak_spread_bytes"] > 0
    assert found["full", "fsdp"]["weights_bytes"] < found["full", "ddp"]["weights_bytes"] / 2
    compared = read_table(results(clone, "a10g") / "comparison.csv")
    told = compared["peak_bytes_predicted"].notna()
    assert told.any()
    assert (compared["peak_bytes_measured"] == compared["peak_bytes_predicted"])[told].all()
    page = (results(clone, "a10g") / "report.html").read_text()
    assert "3 GPUs" in page
    assert ">+nan %<" not in page


def test_the_cloud_profile_runs_end_to_end_on_two_pretended_gpus_where_one_run_is_too_large(tmp_path):
    """Leases, fresh processes, the recorder, a run out of memory as a row, the page."""
    clone = Clone.make(tmp_path)
    training = {"warmup_steps": 1, "measured_steps": 1, "threads": 1, "memory_limit": "64MiB"}
    clone.configure(card="a10g", grids=[GRID, GRID | {"regime": "full", "batch": 2048, "seq": 64}], training=training)
    said = clone.snakemake("--profile", "cloud-gpu", CUDA_VISIBLE_DEVICES="0,1", **HERE)
    assert "4 of 4 runs done" in said
    found = rows(clone, "a10g")
    assert sorted(row["status"] for row in found) == ["ok", "ok", "ok", "oom"]
    (lost,) = (row for row in found if row["status"] == "oom")
    assert (lost["batch"], lost["peak_bytes"], lost["source"]) == (2048, None, "rehearsed")
    assert lost["oom_requested_bytes"] > 0
    assert (results(clone, "a10g") / "report.html").exists()


def test_both_stacks_are_rehearsed_in_one_experiment_and_stand_side_by_side_on_its_page(tmp_path):
    clone = Clone.make(tmp_path)
    clone.configure(
        grids=[GRID | {"precision": "amp", "optimizer": "adamw", "stack": ["minigpt", "transformers"]}], quality=None
    )
    clone.snakemake("--profile", "rehearsal", **HERE)
    found = rows(clone, "t4")
    assert sorted((row["regime"], row["stack"]) for row in found) == [
        (regime, stack) for regime in ("full", "lora", "qlora") for stack in ("minigpt", "transformers")
    ]
    for row in found:
        assert (row["status"], row["source"], row["card"]) == ("ok", "rehearsed", "t4")
        assert row["peak_bytes"] == sum(row[f"{name}_bytes"] for name in BUCKETS)
    assert "Peaks of the runs that were made here in both, rehearsed" in " ".join(
        (results(clone, "t4") / "report.html").read_text().split()
    )


@pytest.mark.parametrize(
    ("config", "python", "says"),
    [
        ("card=t5", str(PYTHON), "card: 't5' is not in the catalogue (did you mean t4?)"),
        ("card=t4", "no-such-python", "no-such-python: is not an interpreter"),
    ],
)
def test_a_rehearsal_that_cannot_be_is_one_sentence_before_anything_runs(tmp_path, config, python, says):
    clone = Clone.make(tmp_path)
    told = ["--profile", "rehearsal", "--config", config]
    said = clone.snakemake(*told, status=2, FOOTPRINT_REHEARSAL_PYTHON=python)
    assert says in said
    assert "Traceback" not in said
    assert not list((clone.root / "results").glob("tiny/*/runs/*.json"))
