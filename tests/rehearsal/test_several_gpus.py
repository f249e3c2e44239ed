"""One rank of several, alone: what it holds, what it hears from ranks that are not there, and how it is started."""

import json

import pandas as pd
import pytest
import yaml
from clone import REPOSITORY

from rehearsal import PROGRAMS, PYTHON, command, needs_cuda_build, needs_programs, rehearsed

KiB, MiB = 2**10, 2**20
MODEL = 8 * 4 * MiB
"""Bytes of the weights in sharded.py: eight Linears of 1,024 x 1,024 in fp32."""

STEPS = 8 * 4
"""Bytes of the steps that a fused AdamW counts on the card."""


def on(gpus: int, program: str, *arguments: str, ranks: str = "0", launcher: tuple[str, ...] = (), steps: str = "3"):
    options = ("--gpus", str(gpus), "--rank", ranks, "--steps", steps)
    return rehearsed(program, *arguments, card="a100-80gb", options=options, launcher=launcher)


def torchrun(*options: str) -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", *options)


def accelerate(*options: str) -> tuple[str, ...]:
    return ("-m", "accelerate.commands.launch", "--mixed_precision", "bf16", *options)


# --- what a rank holds ------------------------------------------------------------------------------------------------


@needs_cuda_build
def test_ddp_holds_the_whole_model_and_a_bucket_for_every_gradient():
    status, answer, said = on(4, "sharded", "ddp")
    assert status == 0, said[-2000:]
    (process,) = answer["processes"]
    buckets = process["buckets"]
    assert (process["rank"], answer["gpus"]) == (0, 4)
    assert (buckets["weights"], buckets["gradients"], buckets["communication"]) == (MODEL, MODEL, MODEL)
    assert buckets["optimizer"] == 2 * MODEL + STEPS


@needs_cuda_build
@pytest.mark.parametrize("way", ["fsdp2", "fsdp1"])
def test_fsdp_holds_its_share(way):
    status, answer, said = on(4, "sharded", way)
    assert status == 0, said[-2000:]
    (process,) = answer["processes"]
    buckets = process["buckets"]
    assert buckets["weights"] == MODEL / 4
    assert buckets["optimizer"] == 2 * MODEL / 4 + STEPS
    assert buckets["gradients"] < MODEL / 4  # those of the last layer are still whole, among the buffers
    assert buckets["communication"] >= MODEL / 8  # one layer gathered, at least


@needs_cuda_build
def test_ranks_that_differ_are_shown_beside_each_other():
    """1,024 rows are 205 on each of four ranks and 204 on the fifth, which has smaller moments for 8 rows."""
    status, answer, said = on(5, "sharded", "fsdp2", ranks="all")
    assert status == 0, said[-2000:]
    peaks = [row["peak_requested_bytes"] for row in answer["ranks"]]
    assert [row["rank"] for row in answer["ranks"]] == [0, 1, 2, 3, 4]
    assert len(set(peaks[:4])) == 1
    assert peaks[0] - peaks[4] == 2 * 8 * 4 * KiB
    assert answer["peak_requested_bytes"] == peaks[0]
    text = command(
        "rehearse", "--card", "t4", "--gpus", "5", "--rank", "4,0", "--", PYTHON, PROGRAMS / "sharded.py", "ddp"
    )
    assert "2 of 5 ranks" in text.stdout
    assert "What NCCL takes of a card outside PyTorch's allocator is not counted." in text.stdout


@needs_cuda_build
def test_a_list_passes_through_one_tensor_as_in_nccls_process_group():
    into_one, into_list = (on(4, "gathered", way)[1]["peak_requested_bytes"] for way in ("one", "list"))
    assert (into_one, into_list) == ((1 + 4) * MiB, (1 + 4 + 4) * MiB)


@needs_cuda_build
@pytest.mark.slow
def test_the_reference_of_seven_billion_parameters_on_eight_cards_repeats(tmp_path):
    asked = yaml.safe_load((REPOSITORY / "config" / "several-gpus.yaml").read_text())
    (tmp_path / "config.json").write_text(json.dumps(asked["models"]["llama-7b"]))
    table = pd.read_csv(REPOSITORY / "results" / "reference" / "sharded" / "sharded.csv")
    row = table.query("model == 'llama-7b' and regime == 'full' and checkpointing == 'block' and gpus == 8").iloc[0]
    program = (REPOSITORY / "benchmarks" / "peers" / "sharded.py", tmp_path / "config.json", "full", "block", "2048")
    told = ["rehearse", "--card", "a100-80gb", "--gpus", "8", "--steps", "2", "--json", "--", PYTHON, *program]
    answer = json.loads(command(*told).stdout)
    for name in ("peak_allocated_bytes", "peak_reserved_bytes"):
        assert answer[name] == row[name]
    assert answer["peak_requested_bytes"] > 16 * row["parameters"] / 8


# --- what it hears ----------------------------------------------------------------------------------------------------


@needs_cuda_build
def test_a_rank_hears_what_it_says_itself():
    """The program starts both ranks; sums count them, what is gathered are copies, an object is as it was."""
    status, _, said = on(2, "spawned", ranks="1")
    assert status == 0, said[-2000:]
    assert f"heard 1 {[6, 3, [3, 3], [3, 3], 2, [1]]} {[100_000] * 2} nccl 2" in said
    assert "heard 0" not in said


# --- how it is started ------------------------------------------------------------------------------------------------


@needs_cuda_build
def test_torchrun_starts_the_rank_alone_wherever_its_machine_would_be():
    """Rank 9 of 16 is the second of the second machine; nobody has to be there."""
    options = ("--nnodes", "2", "--node-rank", "1", "--rdzv-endpoint", "elsewhere:29500", "--nproc-per-node", "8")
    status, answer, said = on(16, "sharded", "fsdp2", ranks="9", launcher=torchrun(*options))
    assert status == 0, said[-2000:]
    assert "told 9 16 1 8 with 8 cards" in said
    alone = on(16, "sharded", "fsdp2", ranks="9")
    assert "told 9 16 9 16 with 16 cards" in alone[2]
    assert answer["peak_requested_bytes"] == alone[1]["peak_requested_bytes"]


@needs_cuda_build
@pytest.mark.slow
@pytest.mark.parametrize("version", ["1", "2"])
def test_transformers_trainer_shards_by_its_own_option(tmp_path, version):
    launcher = torchrun("--nproc-per-node", "gpu")
    status, answer, said = on(4, "sharded_trainer", str(tmp_path), version, launcher=launcher, steps="all")
    assert status == 0, said[-2000:]
    assert "trained to the end" in said
    buckets = answer["processes"][0]["buckets"]
    weights = 4 * (2 * 1000 * 256 + 4 * (4 * 256 * 256 + 3 * 256 * 688 + 2 * 256) + 256)
    assert weights / 4 <= buckets["weights"] < 1.01 * weights / 4


@needs_programs
@pytest.mark.slow
@pytest.mark.parametrize("version", ["1", "2"])
def test_trl_shards_by_the_plugin_of_accelerate(tmp_path, version):
    plugin = ("--use_fsdp", "--fsdp_version", version, "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP")
    wrapped = ("--fsdp_transformer_layer_cls_to_wrap", "LlamaDecoderLayer")
    launcher = accelerate("--num_processes", "4", *plugin, *wrapped)
    status, answer, said = on(4, "sharded_sft", str(tmp_path), launcher=launcher, steps="all")
    assert status == 0, said[-2000:]
    assert "trained to the end" in said
    assert answer["processes"][0]["buckets"]["communication"] > 0


# --- what does not go together ----------------------------------------------------------------------------------------


@needs_cuda_build
def test_a_program_without_a_process_group_was_one_of_one():
    status, answer, _ = on(4, "loop")
    assert status == 0
    assert answer["remark"] == "The program never started a process group: it was rehearsed as one of one."
    assert answer["peak_requested_bytes"] == rehearsed("loop", card="a100-80gb")[1]["peak_requested_bytes"]


@needs_cuda_build
@pytest.mark.parametrize(
    ("program", "launcher", "sentence"),
    [
        ("sharded", torchrun("--nproc-per-node", "2"), "the launcher starts 2 processes, and --gpus says 4."),
        ("spawned", (), "the program starts a process group of 2, and --gpus says 4."),
    ],
)
def test_another_number_of_ranks_than_was_said_is_refused(program, launcher, sentence):
    status, answer, _ = on(4, program, "2", launcher=launcher)
    assert (status, answer["status"], answer["refusal"]) == (2, "refused", sentence)


@needs_cuda_build
def test_a_launcher_without_gpus_is_told_of_them_at_the_end():
    launched = (*torchrun("--nproc-per-node", "2"), PROGRAMS / "sharded.py", "ddp")
    done = command("rehearse", "--card", "t4", "--", PYTHON, *launched)
    assert done.returncode == 2
    assert "process groups are rehearsed with --gpus" in done.stdout.splitlines()[-1]


@needs_cuda_build
def test_data_parallel_is_refused():
    script = "import torch; torch.nn.DataParallel(torch.nn.Linear(8, 8).cuda(), [0, 1])(torch.ones(4, 8).cuda())"
    done = command("rehearse", "--card", "t4", "--gpus", "2", "--", PYTHON, "-c", script)
    assert done.returncode == 2
    assert "DataParallel is not" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (["--gpus", "4", "--rank", "4"], "rank: '4' is not allowed; use one of 0 to 3, several as 0,3, or all"),
        (["--gpus", "4", "--rank", "0,x"], "rank: 'x' is not allowed; use one of 0 to 3, several as 0,3, or all"),
        (["--gpus", "0"], "gpus: 0 is not allowed; use a whole number from 1 to 64"),
        (["--gpus", "many"], "gpus: 'many' is not allowed; use a whole number from 1 to 64"),
        (["--rank", "2"], "rank: 2 is not allowed; use absent for a program without --gpus"),
        (["--gpus", "2", "--rank", "all", "--timeline", "t.csv"], "timeline: 't.csv' is not allowed; use absent where"),
    ],
)
def test_a_mistake_about_ranks_is_one_sentence(arguments, begins):
    done = command("rehearse", "--card", "t4", *arguments, "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {begins}")
    assert done.stderr.count("\n") == 1
