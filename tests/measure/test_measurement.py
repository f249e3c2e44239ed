"""One measured row: its buckets, its repeatability to the byte, and how it says that a run did not fit or diverged."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from math import prod

import pytest
import torch
from tiny import GPT, LLAMA, TRAINING, run

from footprint.errors import FootprintError
from footprint.jobs.fresh import each_fresh, measure_each
from footprint.measure.measurement import batches_needed, measure, random_batches, require_device
from footprint.predict.parameters import resident
from footprint.spec.cards import find
from footprint.spec.columns import BUCKET_BYTES, MEASUREMENTS, PHASE_PEAKS, PHASES, WEIGHT_PARTS
from footprint.spec.handover import parse_run, run_json
from footprint.spec.training import TrainingSpec

pytestmark = pytest.mark.xdist_group("measure")  # one process, so that the rows are measured once

UNREPEATABLE = {name for name in MEASUREMENTS if name.endswith("seconds")} | {
    "process_peak_bytes",
    "tokens_per_second",
    "neighbour_load",
    "measured_at",
    "git_commit",  # somebody may edit a file while the tests run
}

FULL, LORA, QLORA, DOUBLE = (
    run("full", precision="mixed"),
    run("lora", precision="mixed"),
    run("qlora", precision="mixed"),
    run("qlora", precision="mixed", quantization="nf4-double", checkpointing="block"),
)
PEAK = "peak_bytes"


@pytest.fixture(scope="module")
def rows():
    """The row of every spec, each from a process of its own."""
    specs = [FULL, LORA, QLORA, DOUBLE, run("full", model=LLAMA), run("lora", precision="amp")]
    return dict(zip(specs, measure_each(specs, TrainingSpec()), strict=True))


def test_a_row_has_the_columns_of_the_contract(rows):
    assert all(set(row) == set(MEASUREMENTS) and row["status"] == "ok" for row in rows.values())


def test_buckets_sum_to_the_peak_which_is_the_highest_phase(rows):
    for row in rows.values():
        assert sum(row[name] for name in BUCKET_BYTES) == row[PEAK] == max(row[name] for name in PHASE_PEAKS)
        assert row[f"{row['peak_phase']}_{PEAK}"] == row[PEAK]
        assert (
            row["reserved_peak_bytes"] == row["requested_peak_bytes"] == row[PEAK]
        )  # the CPU allocator rounds nothing
        assert row["process_peak_bytes"] > row[PEAK]


def test_weights_and_optimizer_of_mixed_full_are_14_bytes_per_parameter(rows):
    parameters, row = rows[FULL]["trainable_parameters"], rows[FULL]
    assert row["weights_bytes"] == 6 * parameters
    assert row["master_bytes"] == 4 * parameters
    assert 0 <= row["optimizer_bytes"] - 8 * parameters < 4 * 100  # a step count per tensor
    assert row["frozen_base_bytes"] == row["adapter_bytes"] == 0


@pytest.mark.parametrize(
    ("spec", "per_block_of_64", "per_matrix"),
    [(QLORA, 32 + 4, 16 * 4), (DOUBLE, 32 + 1, 16 * 4 + 256 * 4 + 4)],
    ids=["nf4", "nf4-double"],
)
def test_the_frozen_base_of_qlora_counts_absmax_and_code_books(rows, spec, per_block_of_64, per_matrix):
    frozen = 2 * (GPT.vocab + GPT.context + GPT.vocab) * GPT.width  # embeddings and head, in half precision
    frozen += 2 * (2 * GPT.layers + 1) * 2 * GPT.width  # norms
    for d_in, d_out in GPT.linears.values():
        blocks = d_in * d_out // 64
        outer = 4 * -(-blocks // 256) if spec is DOUBLE else 0
        frozen += GPT.layers * (blocks * per_block_of_64 + outer + per_matrix + 2 * d_out)
    assert rows[spec]["frozen_base_bytes"] == frozen


def test_parts_of_the_weights_add_up_where_a_base_is_frozen(rows):
    for spec in (LORA, QLORA, DOUBLE):
        assert sum(rows[spec][name] for name in WEIGHT_PARTS) == rows[spec]["weights_bytes"]
        assert rows[spec]["adapter_bytes"] == 2 * rows[spec]["trainable_parameters"]


def test_an_nf4_weight_counts_its_weights_not_its_bytes(rows):
    assert rows[QLORA]["total_parameters"] == rows[LORA]["total_parameters"]
    blocks = GPT.layers * sum(prod(shape) for shape in GPT.linears.values())
    assert rows[LORA]["frozen_base_bytes"] - rows[QLORA]["frozen_base_bytes"] > blocks  # 2 bytes became about 0.6


def test_a_run_in_a_new_interpreter_gives_the_same_row_to_the_byte_every_time(rows):
    """As the workflow describes a run: JSON in, a row out; forked or started, once or twice."""
    program = (
        "import json, sys; from footprint.measure.measurement import random_batches as batches;"
        "from footprint.spec.handover import parse_run;"
        "from footprint.measure.measurement import batches_needed as needed, measure;"
        "spec, training = parse_run(sys.argv[1]);"
        "print(json.dumps(measure(spec, training, batches(spec, needed(training))).row))"
    )
    command = [sys.executable, "-c", program, run_json(DOUBLE, TrainingSpec())]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    one, other = (json.loads(process.communicate()[0]) for process in started)
    for name in set(MEASUREMENTS) - UNREPEATABLE:
        assert one[name] == other[name] == rows[DOUBLE][name], name


def test_a_run_survives_the_way_to_its_process_and_back():
    assert parse_run(run_json(DOUBLE, TRAINING)) == (DOUBLE, TRAINING)


def dies(spec, training):
    os._exit(3)


def test_a_process_that_dies_is_an_error_and_not_a_wait():
    with pytest.raises(RuntimeError, match="ended with status 3"):
        list(each_fresh(dies, [LORA], TRAINING))


def with_limit(limit, spec=LORA):
    (row,) = measure_each([spec], replace(TRAINING, memory_limit=limit))
    return row


def test_a_card_of_exactly_the_peak_is_large_enough_and_one_byte_less_is_not(rows):
    peak = rows[LORA][PEAK]
    assert with_limit(peak)["status"] == "ok"
    row = with_limit(peak - 1)
    assert (row["status"], row["oom_phase"]) == ("oom", rows[LORA]["peak_phase"])
    assert 0 < row["oom_requested_bytes"] < peak
    assert row[PEAK] is None
    assert all(row[name] is None for name in (*PHASE_PEAKS, *BUCKET_BYTES))


def test_a_run_that_its_card_has_no_room_for_has_no_times_and_no_losses():
    row = with_limit(resident(LORA).weights)
    assert row["status"] == "oom"
    told = {name for name, value in row.items() if value is not None}
    assert not told & {name for name in MEASUREMENTS if name.endswith(("seconds", "_per_second")) or "loss" in name}


def test_a_card_smaller_than_the_weights_fails_while_building():
    assert with_limit(resident(LORA).weights // 2)["oom_phase"] == "build"


def learns_nothing(spec, training):
    """The row of a run whose loss is a mean over no position."""
    tokens, targets = random_batches(spec, 1)[0]
    return measure(spec, training, [(tokens, torch.full_like(targets, -100))] * batches_needed(training)).row


def test_a_loss_that_is_not_a_number_is_a_status():
    for row in each_fresh(learns_nothing, [run("full"), LORA, QLORA], TRAINING):
        assert row["status"] == "diverged"
        assert row[PEAK] is row["loss_first"] is row["loss_last"] is None


def row_and_heights(spec, training):
    """The row of a run and the highest point of each phase of its timeline."""
    measurement = measure(spec, training, random_batches(spec, batches_needed(training)))
    heights = dict.fromkeys(PHASES, 0)
    for point in measurement.timeline:
        heights[point.phase] = max(heights[point.phase], point.total)
    return {"row": measurement.row, "heights": heights}


def test_the_timeline_reaches_exactly_the_peaks_of_its_row():
    (measured,) = each_fresh(row_and_heights, [LORA], TRAINING)
    assert measured["heights"] == {name: measured["row"][f"{name}_{PEAK}"] for name in PHASES}


def test_nothing_is_measured_on_a_pretended_card(monkeypatch):
    monkeypatch.setenv("FOOTPRINT_CARD", find("t4").described())
    with pytest.raises(
        FootprintError, match=r"^card: null asks for a real device, and this process has a pretended one"
    ):
        require_device("cuda")


def busy_neighbour(spec, training):
    """The row of a run beside which as many processes as there are processors do nothing but compute."""
    processors = len(os.sched_getaffinity(0))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processors)]
    try:
        return measure(spec, training, random_batches(spec, batches_needed(training))).row
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_a_row_tells_how_steady_its_steps_were_and_whether_a_neighbour_used_the_processors():
    training = TrainingSpec(measured_steps=60, threads=1)
    (row,) = each_fresh(busy_neighbour, [LORA], training)
    assert row["timed_steps"] == 60
    assert row["lower_step_seconds"] <= row["step_seconds"] <= row["upper_step_seconds"]
    assert 0.2 < row["neighbour_load"] <= 1


def test_a_clock_gets_enough_steps_to_show_their_spread_and_a_rehearsal_none_more(monkeypatch):
    assert batches_needed(TrainingSpec(measured_steps=2)) == 1 + 2 + 5
    assert batches_needed(TrainingSpec(measured_steps=9)) == 1 + 9 + 9
    monkeypatch.setenv("FOOTPRINT_CARD", find("t4").described())
    assert batches_needed(TrainingSpec(measured_steps=2)) == 1 + 2 + 2
