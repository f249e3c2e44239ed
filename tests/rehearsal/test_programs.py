"""Training programs as people write them, with other people's trainers, unchanged: each runs to its end."""

import os
import subprocess

import pytest
from clone import REPOSITORY

from footprint.rehearsal.launch import environment
from footprint.spec.cards import find
from rehearsal import PYTHON, needs_cuda_build, needs_programs, rehearsed

pytestmark = [needs_cuda_build, pytest.mark.slow]

MiB = 2**20


@needs_programs
@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_8bit"])
def test_trl_trains_a_quantized_model_evaluates_and_saves(tmp_path, optimizer):
    """It selects labelled tokens by a mask, so shapes depend on values; the last steps and the checkpoints are real."""
    status, answer, said = rehearsed("sft", str(tmp_path), optimizer, card="a10g", options=("--steps", "all"))
    assert status == 0, said[-2000:]
    assert "trained to the end" in said
    assert {"checkpoint-2", "checkpoint-3"} <= {path.name for path in tmp_path.iterdir()}
    (process,) = answer["processes"]
    assert process["steps"] == 3
    assert all(process["buckets"][bucket] > 0 for bucket in ("weights", "optimizer", "activations"))


@needs_programs
def test_a_kernel_that_a_card_does_not_have_is_refused_as_on_the_card(tmp_path):
    """A T4 has no product of bf16 matrices with fp32 result, for which TRL asks PyTorch: the error is PyTorch's own."""
    status, _, said = rehearsed("sft", str(tmp_path), "adamw_8bit", card="t4", options=("--steps", "all"))
    assert status == 1
    assert "only supported for CUDA devices with compute capability 8.0 or higher" in said


@needs_programs
def test_lightning_trains_under_autocast():
    status, answer, said = rehearsed("lightning_loop", card="a10g")
    assert status == 0, said[-2000:]
    weights = 4 * (256 * 1024 + 1024 + 1024 * 256 + 256)
    (process,) = answer["processes"]
    assert process["steps"] == 3
    assert process["buckets"]["optimizer"] == 2 * weights  # two moments; steps are counted on the host


@needs_programs
def test_torchtune_carries_out_its_recipe_from_a_checkpoint(tmp_path):
    """Two layers of width 256 with adapters on q and v, in bf16; the recipe ends by itself and saves the adapters."""
    places = f"{REPOSITORY / 'src'}:{PYTHON.parents[1] / 'torchtune'}"  # PEFT refuses to run beside its old torchao
    told = {"card": "a10g", "options": ("--steps", "all"), "PYTHONPATH": places}
    status, answer, said = rehearsed("torchtune_lora", str(tmp_path), **told)
    assert status == 0, said[-2000:]
    (process,) = answer["processes"]
    assert process["steps"] == 16 / 2 / 2
    adapters = 2 * 8 * ((256 + 256) + (256 + 128))
    assert process["buckets"]["optimizer"] >= 2 * 2 * adapters
    assert (tmp_path / "out" / "epoch_0" / "adapter_model.safetensors").exists()


def test_a_program_that_asks_for_pytorch_before_it_imports_it_is_watched():
    """As Transformers does where it is imported first."""
    asking = ("-c", "import importlib.util as u, runpy, sys; u.find_spec('torch'); runpy.run_path(sys.argv[1])")
    status, answer, said = rehearsed("loop", card="a10g", launcher=asking)
    assert status == 0, said[-2000:]
    assert answer["processes"][0]["steps"] == 3


def test_accelerate_launches_a_program():
    launched = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--mixed_precision", "no")
    status, answer, said = rehearsed("loop", card="a10g", launcher=launched)
    assert status == 0, said[-2000:]
    assert answer["peak_allocated_bytes"] == rehearsed("loop", card="a10g")[1]["peak_allocated_bytes"]


def test_a_compiled_model_trains():
    status, answer, said = rehearsed("compiled", card="a10g")
    assert status == 0, said[-2000:]
    assert answer["processes"][0]["steps"] == 3


def test_sparse_jagged_nested_and_lazy_tensors_train():
    """A sparse gradient is its indices and values; the moments of SparseAdam are whole, those of AdamW two for each."""
    status, answer, said = rehearsed("odd_tensors", card="a10g")
    assert status == 0, said[-2000:]
    buckets = answer["processes"][0]["buckets"]
    sparse, dense = 1000 * 64, 2 * (64 * 64 + 64)
    assert buckets["weights"] == 4 * (sparse + dense)
    assert buckets["optimizer"] == 2 * 4 * (sparse + dense)
    assert buckets["gradients"] == 256 * (8 + 64 * 4) + 4 * dense


def test_a_program_that_asks_what_is_free_is_told_the_cards_own_figures():
    """By nvidia-smi and by CUDA: both count the context as used."""
    card = find("t4")
    status, answer, said = rehearsed("sizing")
    assert status == 0, said[-2000:]
    free = card.total - card.context
    for way in ("nvidia-smi", "CUDA"):
        assert f"as {way} says: Tesla T4 {card.total // MiB} {free // MiB}" in said
    assert answer["peak_requested_bytes"] == free // 2


def test_nvidia_smi_says_what_it_does_not_know():
    told = os.environ | environment(find("t4"), str(PYTHON))
    done = subprocess.run(["nvidia-smi", "--query-gpu=temperature.gpu", "--format=csv"], env=told, capture_output=True)
    assert done.returncode == 2
    assert b"temperature.gpu is not rehearsed" in done.stderr
