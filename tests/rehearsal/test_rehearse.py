"""Any PyTorch program, unchanged, as if on a card: its bytes, its end, and the lines that took the memory."""

import csv
import json
import os
import pickle
import subprocess
from itertools import groupby

import pytest
from clone import REPOSITORY

from footprint.rehearsal.launch import INSIDE, environment
from footprint.spec.cards import find
from footprint.spec.columns import COMPARED
from rehearsal import PROGRAMS, PYTHON, command, needs_cuda_build, rehearsed

MiB, GiB = 2**20, 2**30
SAID = "Rehearsed, not measured: kernels did nothing, so losses and times mean nothing."


# --- bytes ----------------------------------------------------------------------------------------------------------


@needs_cuda_build
def test_allocated_and_reserved_follow_from_the_allocators_documented_rules():
    status, answer, said = rehearsed("allocator")
    card = find("t4")
    allocated = 512 + 3 * MiB + 11 * MiB + 18 * MiB
    reserved = 2 * MiB + 20 * MiB + 18 * MiB
    assert status == 0
    assert f"{allocated} {reserved} {card.total - card.context - reserved} {card.total}" in said
    assert (answer["peak_allocated_bytes"], answer["peak_reserved_bytes"]) == (allocated, reserved)
    assert answer["peak_requested_bytes"] == 100 + 3 * MiB + 11 * MiB + 17 * MiB + 1
    assert answer["peak_on_card_bytes"] == reserved + card.context
    assert (answer["source"], answer["status"]) == ("rehearsed", "ok")


@needs_cuda_build
def test_a_training_loop_is_told_apart_by_phase_and_bucket_and_ends_after_three_steps():
    status, answer, said = rehearsed("loop")
    (process,) = answer["processes"]
    parameters = 4 * (256 * 1024 + 1024 + 1024 * 256 + 256)
    assert (status, process["steps"]) == (0, 3)
    assert "step 1\n" in said
    assert "step 3\n" not in said
    phases = process["phases"]
    batch = 4 * 32 * 64 * 256
    assert phases["build"]["requested_bytes"] == 4 * parameters + batch  # the first is made before the first forward
    assert set(phases) >= {"build", "forward", "backward", "step"}
    assert answer["peak_allocated_bytes"] == max(phase["allocated_bytes"] for phase in phases.values())
    buckets = process["buckets"]
    assert buckets["weights"] == 4 * parameters
    assert buckets["optimizer"] == 8 * parameters
    assert sum(buckets.values()) == answer["peak_requested_bytes"]
    assert any((tensor["line"] or "").endswith("/loop.py:12 in <module>") for tensor in process["largest"])


@needs_cuda_build
def test_the_timeline_and_the_snapshot_tell_the_same_story_as_the_answer(tmp_path):
    options = ("--timeline", str(tmp_path / "live.csv"), "--snapshot", str(tmp_path / "live.pickle"))
    status, answer, said = rehearsed("loop", options=options)
    assert status == 0, said
    with (tmp_path / "live.csv").open(newline="") as file:
        rows = [(row.pop("phase"), {name: int(size) for name, size in row.items()}) for row in csv.DictReader(file)]
    highest = max((live for _, live in rows), key=lambda live: sum(live.values()))
    assert highest == answer["processes"][0]["buckets"]
    for phase in ("build", "forward", "backward", "step"):
        reached = max(sum(live.values()) for found, live in rows if found == phase)
        assert reached <= answer["processes"][0]["phases"][phase]["requested_bytes"]
    assert [phase for phase, _ in groupby(rows, key=lambda row: row[0])][:4] == ["build", "forward", "backward", "step"]
    snapshot = pickle.loads((tmp_path / "live.pickle").read_bytes())
    (trace,) = (trace for trace in snapshot["device_traces"] if trace)
    assert sum(entry["action"] in ("alloc", "free_completed") for entry in trace) == len(rows)
    assert snapshot["segments"]


def test_a_folder_is_no_timeline(tmp_path):
    done = command("rehearse", "--card", "t4", "--timeline", tmp_path, "--", PYTHON, PROGRAMS / "loop.py")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: timeline: ")
    assert done.stderr.endswith(" is not allowed; use a file to write\n")


@needs_cuda_build
def test_a_rehearsal_repeats_to_the_byte_and_another_card_changes_only_what_it_must():
    first, second, other = (rehearsed("loop", card=card)[1] for card in ("t4", "t4", "a100-80gb"))
    peaks = [name for name in first if name.startswith("peak")]
    assert [first[name] for name in peaks] == [second[name] for name in peaks]
    assert other["peak_requested_bytes"] != 0
    assert other["card_total_bytes"] > first["card_total_bytes"]


@needs_cuda_build
@pytest.mark.slow
def test_full_fine_tuning_of_7b_fits_an_h200_and_not_an_a100_of_40_gb():
    """Weights, gradients and two moments in bf16 are 8 bytes for each of 6,738,415,616 parameters."""
    status, answer, _ = rehearsed("llama_7b", card="h200")
    at_rest = 8 * 6_738_415_616
    assert status == 0
    assert at_rest < answer["peak_requested_bytes"] < 1.01 * at_rest
    status, answer, _ = rehearsed("llama_7b", card="a100-40gb")
    assert (status, answer["status"]) == (1, "oom")
    assert answer["processes"][0]["failures"][-1]["phase"] == "step"


# --- how it ends ----------------------------------------------------------------------------------------------------


@needs_cuda_build
def test_running_out_of_memory_is_exit_status_one_with_the_line_and_what_it_asked_for():
    status, answer, _ = rehearsed("endings", "out_of_memory")
    (failure,) = answer["processes"][0]["failures"]
    assert (status, answer["status"], failure["asked"]) == (1, "oom", 4 * GiB)
    assert failure["line"].split("/")[-1] == "endings.py:14 in take"
    assert answer["peak_allocated_bytes"] == 12 * GiB
    told = ["rehearse", "--card", "t4", "--", PYTHON, PROGRAMS / "endings.py", "out_of_memory"]
    text = command(*told).stdout
    assert SAID in text
    assert "Out of memory in build, asking for 4.00 GiB with 2.42 GiB free: " in text


@needs_cuda_build
def test_a_program_that_survives_running_out_of_memory_has_run():
    status, answer, _ = rehearsed("endings", "survives")
    assert (status, answer["status"]) == (0, "ok")
    assert answer["peak_allocated_bytes"] == 8 * GiB
    assert len(answer["processes"][0]["failures"]) > 1


@needs_cuda_build
@pytest.mark.parametrize(("ending", "status"), [("fails", 7), ("killed", 137)])
def test_otherwise_the_exit_status_is_the_programs_own(ending, status):
    found, answer, _ = rehearsed("endings", ending)
    assert (found, answer["status"]) == (status, "failed")


@needs_cuda_build
def test_what_cannot_be_rehearsed_is_refused_by_name():
    status, answer, said = rehearsed("endings", "convolution")
    assert (status, answer["status"]) == (2, "refused")
    assert answer["refusal"].startswith("cudnn")
    assert "cannot be rehearsed: cuDNN's convolutions" in answer["refusal"]
    assert answer["refusal"] in said


@needs_cuda_build
@pytest.mark.parametrize(
    ("program", "reason"),
    [("unknown_shape", "torch.float32"), ("unknown_choice", "floating-point numbers that were never computed")],
)
def test_a_shape_that_cannot_be_known_stops_with_its_operator(program, reason):
    status, answer, said = rehearsed("endings", program)
    assert (status, answer["status"]) == (2, "refused")
    assert "the shape of nonzero's result depends on values that a rehearsal does not have" in answer["refusal"]
    assert reason in said


@needs_cuda_build
def test_small_integers_and_bools_are_real():
    status, _, said = rehearsed("values")
    assert "all real" in said, said
    assert status == 0


@needs_cuda_build
def test_a_tensor_is_printed_without_the_values_that_no_kernel_wrote():
    status, _, said = rehearsed("printed")
    first, *_ = said.splitlines()
    here = "device='cuda:0')"
    assert (status, first) == (0, f"tensor(..., {here} tensor(..., {here} tensor([0, 1, 2], {here} tensor([1., 1.])")


# --- programs as people run them ------------------------------------------------------------------------------------


@needs_cuda_build
@pytest.mark.slow
def test_transformers_trainer_with_peft_and_a_paged_optimizer_runs_unchanged(tmp_path):
    status, answer, said = rehearsed("trainer", str(tmp_path), card="a10g")
    assert status == 0, said
    assert answer["processes"][0]["steps"] == 3
    assert answer["processes"][0]["buckets"]["weights"] > 0


@needs_cuda_build
def test_child_processes_are_followed_and_the_largest_comes_first():
    status, answer, _ = rehearsed("launcher")
    assert status == 0
    assert [process["program"][-1] for process in answer["processes"]] == [str(GiB), str(MiB)]
    assert answer["peak_allocated_bytes"] == GiB


@needs_cuda_build
def test_expandable_segments_are_mapped_and_counted():
    status, answer, _ = rehearsed("loop", PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True")
    assert status == 0
    assert answer["peak_reserved_bytes"] % (2 * MiB) == 0
    assert answer["peak_requested_bytes"] == rehearsed("loop")[1]["peak_requested_bytes"]


@needs_cuda_build
def test_another_memory_than_the_catalogues_decides():
    assert rehearsed("endings", "out_of_memory", options=("--gpu-memory", "64GiB"))[0] == 0


@needs_cuda_build
@pytest.mark.slow
def test_this_projects_own_cuda_path_passes_its_tests_on_a_rehearsed_h100():
    told = os.environ | environment(find("h100-80gb"), str(PYTHON)) | {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/measure/test_cuda.py"],
        cwd=REPOSITORY,
        env=told,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " skipped" not in done.stdout


# --- what a person may mistype --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (["--card", "t5", "--", "true"], "card: 't5' is not in the catalogue (did you mean t4?)"),
        (["--card", "t4", "--"], "command: nothing to rehearse; write a program after --"),
        (["--card", "t4", "--model", "minigpt-3m"], "regime: None is not allowed; use one of full, lora, qlora"),
        (["--card", "t4", "--steps", "2", "--model", "minigpt-3m"], "steps: 2 is not allowed; use absent where"),
        (["--card", "t4", "--", "no-such-program"], "command: 'no-such-program' was not found"),
        (["--card", "t4", "--steps", "0", "--", "true"], "steps: 0 is not allowed; use a whole number from 1, or all"),
        (["--", "true"], "the following arguments are required: --card"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_two(arguments, begins):
    done = command("rehearse", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {begins}")
    assert done.stderr.count("\n") == 1


@needs_cuda_build
def test_a_run_of_the_projects_own_is_rehearsed_beside_its_prediction():
    asked = ["rehearse", "--card", "t4", "--model", "minigpt-3m", "--regime", "lora"]
    done = command(*asked, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    row = answer["rehearsed"]
    assert (row["source"], row["card"], row["device_name"]) == ("rehearsed", "t4", "Tesla T4")
    assert row["peak_bytes"] == max(row[f"{phase}_peak_bytes"] for phase in ("forward", "backward", "step"))
    assert {name: row[name] for name in COMPARED} == {name: answer["predicted"][name] for name in COMPARED}
    assert SAID in " ".join(command(*asked).stdout.split())
    small = command(*asked, "--gpu-memory", "200MiB")
    assert (small.returncode, small.stdout.count("Out of memory in ")) == (1, 1)


@needs_cuda_build
def test_a_programs_own_modules_are_found_whatever_they_are_called(tmp_path):
    """Those of a rehearsal have one name in common, which no program has."""
    names = sorted(path.stem for path in (INSIDE / "footprint_inside").glob("*.py") if path.stem != "__init__")
    assert "world" in names
    for name in names:
        (tmp_path / f"{name}.py").write_text("mine = True\n")
    program = tmp_path / "train.py"
    imports = "\n".join(f"import {name}; assert {name}.mine" for name in names)
    program.write_text(f"import torch\n{imports}\ntorch.ones(3, device='cuda')\n")
    done = command("rehearse", "--card", "t4", "--gpus", "2", "--json", "--", PYTHON, program)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["peak_requested_bytes"] == 12


def test_an_interpreter_without_a_cuda_build_is_told_what_it_lacks(tmp_path):
    interpreter = tmp_path / "python"
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n")
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec python3 "$@"\n')
    interpreter.chmod(0o755)
    done = command("rehearse", "--card", "t4", "--", interpreter, "train.py")
    assert done.returncode == 2
    assert "PyTorch 2.13.0+cpu is not a CUDA build" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_cards_are_listed_for_people_and_for_programs():
    listed = command("cards").stdout.splitlines()
    assert listed[1].split()[:3] == ["t4", "Tesla", "T4"]
    told = json.loads(command("cards", "--json").stdout)
    assert len(told) == len(listed) - 1
    assert {"key", "name", "total", "context", "source", "checked"} <= set(told[0])
