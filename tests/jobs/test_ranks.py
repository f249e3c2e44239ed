"""One run in several processes: it learns what one process learns, and each holds what its share takes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache

import pytest
from tiny import GPT, LLAMA, run

from footprint.jobs.fresh import each_fresh, measure_each
from footprint.jobs.ranks import together
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

TRAINING = TrainingSpec(measured_steps=1, threads=1)
AT_REST = ("weights_bytes", "frozen_base_bytes", "adapter_bytes", "master_bytes")
KINDS = [("full", GPT, "mixed"), ("lora", LLAMA, "amp"), ("qlora", LLAMA, "mixed")]


def on(gpus: int, sharding: str, spec: RunSpec) -> RunSpec:
    return run(spec.regime, model=spec.model, precision=spec.precision, batch=12, gpus=gpus, sharding=sharding)


@cache
def rows() -> dict[tuple, dict]:
    """The measured row of every kind of run on one process, two and three."""
    ways = [(1, "none"), (2, "ddp"), (2, "fsdp"), (3, "fsdp")]
    specs = [
        on(*way, run(regime, model=model, precision=precision)) for regime, model, precision in KINDS for way in ways
    ]
    found = measure_each(specs, TRAINING)
    return {(spec.regime, spec.gpus, spec.sharding): row for spec, row in zip(specs, found, strict=True)}


@pytest.mark.parametrize("regime", ["full", "lora", "qlora"])
@pytest.mark.parametrize("way", [(2, "ddp"), (2, "fsdp"), (3, "fsdp")])
def test_the_loss_is_that_of_one_process_on_the_whole_batch(regime, way):
    alone, shared = rows()[regime, 1, "none"], rows()[regime, *way]
    # Means of shares are rounded otherwise than the mean of the whole, gradients in half precision too.
    assert shared["loss_first"] == pytest.approx(alone["loss_first"], rel=1e-5)
    assert shared["loss_last"] == pytest.approx(alone["loss_last"], rel=2e-3)
    assert shared["loss_last"] != shared["loss_first"]


@pytest.mark.parametrize("regime", ["full", "lora", "qlora"])
def test_under_ddp_each_holds_the_whole_model(regime):
    alone, shared = rows()[regime, 1, "none"], rows()[regime, 2, "ddp"]
    same = (*AT_REST, "optimizer_bytes", "trainable_parameters", "total_parameters")
    assert {name: shared[name] for name in same} == {name: alone[name] for name in same}
    assert shared["peak_spread_bytes"] == 0


def test_under_fsdp_each_of_two_holds_half_of_a_model_whose_rows_are_even():
    alone, shared = rows()["full", 1, "none"], rows()["full", 2, "fsdp"]
    assert all(2 * shared[name] == alone[name] for name in AT_REST)
    counters = 4 * 37  # AdamW's, whole on each: one of every parameter
    assert 2 * (shared["optimizer_bytes"] - counters) == alone["optimizer_bytes"] - counters
    assert shared["total_parameters"] == alone["total_parameters"]
    assert shared["peak_spread_bytes"] == 0


def test_where_rows_do_not_divide_the_first_rank_holds_most_and_the_row_says_by_how_much():
    shared = rows()["full", 3, "fsdp"]
    assert shared["peak_spread_bytes"] > 0
    assert 3 * shared["weights_bytes"] > rows()["full", 1, "none"]["weights_bytes"]


def test_a_trainer_of_transformers_shares_its_batches_too():
    spec = run("lora", model=LLAMA, precision="amp", batch=4, stack="transformers", optimizer="adamw-fused")
    alone, shared = measure_each([spec, replace(spec, gpus=2, sharding="ddp")], TRAINING)
    assert shared["loss_first"] == pytest.approx(alone["loss_first"], rel=1e-5)
    same = (*AT_REST, "optimizer_bytes", "trainable_parameters", "total_parameters")
    assert {name: shared[name] for name in same} == {name: alone[name] for name in same}
    assert shared["peak_bytes"] < alone["peak_bytes"]


def test_memory_that_runs_out_on_a_rank_is_the_row_of_the_run():
    (row,) = measure_each([on(2, "fsdp", run("full"))], TrainingSpec(measured_steps=1, threads=1, memory_limit="1MiB"))
    assert row["status"] == "oom"
    assert row["peak_bytes"] is None


def _dies(rank: int) -> None:
    if rank == 1:
        os._exit(3)
    time.sleep(60)


def _with_a_rank_that_dies(spec: RunSpec, training: TrainingSpec) -> str:
    started = time.monotonic()
    try:
        together(_dies, spec)
    except RuntimeError as error:
        return f"{error}, at once" if time.monotonic() - started < 30 else "too late"
    return "nothing was noticed"


def test_a_rank_that_dies_ends_the_run_at_once():
    (said,) = each_fresh(_with_a_rank_that_dies, [on(2, "ddp", run("full"))], TRAINING)
    assert said == "the process of a rank ended with status 3, at once"


def _waits(rank: int) -> None:
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece: two of them write
    time.sleep(60)


def test_no_rank_outlives_the_process_that_started_it():
    program = "from test_ranks import *; from test_ranks import _waits; together(_waits, on(2, 'ddp', run('full')))"
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    ranks = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{rank}") for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.1)
