"""Published models under Transformers' Trainer, rehearsed: what anybody's own program says of the same run."""

import json
import re

import pytest

from footprint.spec.cards import find
from rehearsal import PYTHON, command, needs_cuda_build, rehearsed

pytestmark = [needs_cuda_build, pytest.mark.slow]

TINY = {
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 512,
    "vocab_size": 2000,
    "max_position_embeddings": 4096,
}
FAMILIES = {
    "qwen3": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma2": {"sliding_window": 128},
    "opt": {"ffn_dim": 512, "word_embed_proj_dim": 256},
}


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    monkeypatch.setenv("FOOTPRINT_REHEARSAL_PYTHON", str(PYTHON))


def config(folder, family: str = "qwen3", **sizes):
    told = {"model_type": family} | TINY | FAMILIES[family] | sizes
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def answered(*options: str) -> dict:
    done = command("rehearse", "--json", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("card", ["a10g", "h100-80gb"])
def test_the_trainer_requests_the_bytes_that_it_does_in_somebody_s_own_program(card, tmp_path):
    """Where tensors lie differs with the way a model is loaded, so allocated bytes may, but not what is asked for."""
    folder = config(tmp_path)
    ours = answered("--card", card, "--hf-config", folder, "--regime", "lora", "--batch", "4", "--seq", "256")
    status, theirs, said = rehearsed(
        "published", str(folder), str(tmp_path / "out"), card=card, CUDA_VISIBLE_DEVICES="0"
    )
    assert status == 0, said[-2000:]
    assert ours["requested_peak_bytes"] == theirs["peak_requested_bytes"]
    assert (ours["stack"], ours["source"], ours["card"]) == ("transformers", "rehearsed", card)


def test_the_grouped_products_of_experts_are_rehearsed_on_hopper_too(tmp_path):
    """There they describe their matrices to the driver first."""
    options = ("--hf-config", config(tmp_path, "mixtral"), "--regime", "full", "--batch", "1", "--seq", "128")
    assert answered("--card", "h100-80gb", *options)["status"] == "ok"


@pytest.mark.parametrize("family", FAMILIES)
def test_any_decoder_that_transformers_makes_of_a_config_is_rehearsed(family, tmp_path):
    """Mixture of experts and Gemma's norms are among them, of which MiniGPT has no block."""
    folder = config(tmp_path, family)
    axes = ("--regime", "qlora", "--batch", "1", "--seq", "128", "--dropout", "0")  # PEFT has none for experts
    row = answered("--card", "a10g", "--hf-config", folder, *axes)
    assert (row["status"], row["verdict"]) == ("ok", "fits")
    assert row["weights_bytes"] > 2 * 2000 * 256
    assert row["trainable_parameters"] > 0


def test_what_a_card_cannot_hold_is_exit_status_one_and_says_where(tmp_path):
    options = ("--card", "t4", "--hf-config", config(tmp_path), "--regime", "full", "--half", "fp16", "--batch", "512")
    done = command("rehearse", *options, "--seq", "4096")
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Out of memory in forward, asking for" in done.stdout
    assert "Largest tensors at the peak, by shape" in done.stdout
    assert re.search(r"[\d.]+ GiB more than this card has would do\.", done.stdout)
    (needed,) = re.findall(r"on the card +[\d.]+ GiB +([\d,]+) bytes", done.stdout)
    assert int(needed.replace(",", "")) > find("t4").total


def test_the_search_by_rehearsals_ends_where_one_more_sequence_does_not_fit(tmp_path):
    folder = config(tmp_path)
    recipe = ("--card", "t4", "--hf-config", folder, "--half", "fp16", "--regime", "lora", "--checkpointing", "none")
    done = command("fit", "--rehearse", "--json", *recipe, "--seq", "1024,4096")
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = json.loads(done.stdout)["settings"]
    assert (found["status"], found["seq"]) == ("ok", 4096)
    larger = command("rehearse", "--json", *recipe, "--seq", "4096", "--batch", str(found["batch"] + 1))
    assert larger.returncode == 1
    assert json.loads(larger.stdout)["verdict"] == "does not fit"


def test_adapters_that_peft_does_not_have_are_one_sentence(tmp_path):
    options = ("--card", "a10g", "--hf-config", config(tmp_path, "mixtral"), "--regime", "lora", "--seq", "128")
    for told, says in (
        (("--dropout", "0.1"), "error: dropout: 0.1 is not allowed; use 0 ("),
        (("--targets", "w1,w2"), "error: targets: PEFT puts no adapters on w1+w2 with dropout 0.05 ("),
    ):
        done = command("rehearse", *options, *told)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(says)


def test_what_only_cudnn_could_do_is_refused_with_its_exit_status(tmp_path):
    """Mamba convolves."""
    sizes = {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 99, "state_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    done = command("rehearse", "--card", "a10g", "--hf-config", tmp_path, "--regime", "full", "--seq", "64")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be rehearsed: cuDNN's convolutions" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: the run: needs what cannot be rehearsed")


def test_a_sequence_beyond_learned_positions_is_refused(tmp_path):
    folder = config(tmp_path, "opt", max_position_embeddings=512)
    options = ("--card", "a10g", "--hf-config", folder, "--regime", "lora", "--batch", "1")
    done = command("rehearse", *options, "--seq", "513")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: seq: 513 is not allowed; use at most 512: its positions are learned" in done.stderr
    assert answered(*options, "--seq", "512")["status"] == "ok"


def test_the_search_answers_what_cannot_be_asked_in_one_sentence(tmp_path):
    options = ("--card", "a10g", "--hf-config", config(tmp_path), "--regime", "lora", "--targets", "w1+w2")
    done = command("fit", "--rehearse", *options, "--seq", "128")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: targets: PEFT puts no adapters on w1+w2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "nothing"}, "Transformers cannot read it"),
        ({"model_type": "t5"}, "Transformers makes no decoder of it"),
        ({"num_attention_heads": "four"}, "hf-config: num_attention_heads: 'four' is not allowed; use a whole number"),
        ({"num_key_value_heads": 3}, "hf-config: num_key_value_heads: 3 is not allowed; use a divisor of 4 heads"),
        ({"num_hidden_layers": 10**9}, "hf-config: num_hidden_layers: 1000000000 is not allowed"),
        ({"vocab_size": 0}, "hf-config: vocab_size: 0 is not allowed"),
        ({"attention_dropout": 1.5}, "Transformers does not train it ("),
        ({"head_dim": "64"}, "Transformers cannot read it (Validation error for field 'head_dim'"),
    ],
)
def test_a_config_that_is_none_of_a_decoder_is_one_sentence(changes, says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"} | TINY | changes))
    done = command("rehearse", "--card", "a10g", "--hf-config", tmp_path, "--regime", "lora")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
