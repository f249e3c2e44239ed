"""A published config.json is read as the model it describes, or refused in a sentence."""

import json
import os
import re

import pytest
import torch
from facts import MODELS
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from footprint.command import main as cli
from footprint.errors import FootprintError
from footprint.predict.parameters import parameter_count
from footprint.spec.presets import PRESETS
from footprint.spec.published import FAMILIES, read_shape

SMALL = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 99}
OPTIONS = {
    "llama, tied": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "llama, biases": LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
    "llama, biases of attention": LlamaConfig(**SMALL, attention_bias=True),
    "mistral, heads wider than width over heads": MistralConfig(**SMALL, num_key_value_heads=2, head_dim=24),
    "qwen3, biases": Qwen3Config(**SMALL, num_key_value_heads=2, attention_bias=True),
    "gpt2, untied": GPT2Config(n_embd=48, n_head=3, n_layer=2, n_inner=100, vocab_size=77, tie_word_embeddings=False),
    "gpt_neox, tied": GPTNeoXConfig(**SMALL, tie_word_embeddings=True),
} | {f"{family}, by default": CONFIG_MAPPING[family]() for family in FAMILIES}
"""What a family's files may say beside sizes, and the least they may say."""


def parameters_in_transformers(folder) -> int:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).num_parameters()


@pytest.mark.parametrize(("family", "told", "published"), MODELS.values(), ids=MODELS)
def test_a_published_model_has_the_parameters_its_card_names_here_and_in_transformers(
    family, told, published, tmp_path
):
    (tmp_path / "config.json").write_text(json.dumps(told | {"model_type": family}))
    assert parameter_count(read_shape(tmp_path)) == parameters_in_transformers(tmp_path) == published


@pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS)
def test_what_a_family_may_say_is_read_as_transformers_reads_it(config, tmp_path):
    config.save_pretrained(tmp_path)
    assert parameter_count(read_shape(tmp_path)) == parameters_in_transformers(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_file_leaves_out_means_what_transformers_means_by_it(family, tmp_path):
    """Only what no family has a default for is said."""
    sizes = FAMILIES[family].sizes
    told = {"model_type": family} | {
        sizes[name]: getattr(CONFIG_MAPPING[family](), sizes[name])
        for name in sizes
        if sizes[name] not in FAMILIES[family].absent
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert parameter_count(read_shape(tmp_path)) == parameters_in_transformers(tmp_path)


def test_every_family_is_held_against_transformers():
    assert {family for family, _, _ in MODELS.values()} == set(FAMILIES)


# As published beside the weights, shortened to what decides the shape.
LLAMA3 = {
    "model_type": "llama",
    "attention_bias": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}


def written(folder, **changes):
    told = {key: value for key, value in (LLAMA3 | changes).items() if value != "gone"}
    path = folder / "config.json"
    path.write_text(json.dumps(told))
    return path


def test_a_folder_stands_for_the_config_in_it(tmp_path):
    written(tmp_path)
    assert read_shape(tmp_path) == read_shape(tmp_path / "config.json")


def test_llama_405b_with_a_context_longer_than_any_weight_has_rows_is_a_model(tmp_path):
    """Rotary positions have no weight: its 131,072 x 16,384 was held against the largest weight and refused."""
    published = {"hidden_size": 16384, "num_attention_heads": 128, "num_hidden_layers": 126, "intermediate_size": 53248}
    model = read_shape(written(tmp_path, **published, max_position_embeddings=131072))
    assert parameter_count(model) == 405_853_388_800
    assert read_shape(written(tmp_path, hidden_size=2048, max_position_embeddings=2**20)).context == 2**20


def test_mistral_nemo_keeps_its_own_head_width(tmp_path):
    nemo = {"hidden_size": 5120, "num_hidden_layers": 40, "max_position_embeddings": 131072, "vocab_size": 131072}
    model = read_shape(written(tmp_path, **nemo, model_type="mistral", head_dim=128))
    assert (model.head_width, model.linears["q_proj"], model.linears["o_proj"]) == (128, (5120, 4096), (4096, 5120))
    assert parameter_count(model) == 12_247_782_400


def test_predict_takes_a_file_and_names_the_model_after_its_folder(tmp_path, capsys):
    (tmp_path / "Llama 3").mkdir()
    path = written(tmp_path / "Llama 3")
    command = ["--regime", "qlora", "--seq", "1024", "--json"]
    assert cli.main(["predict", "--hf-config", str(path), *command]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "Llama-3"
    assert cli.main(["predict", "--model", "llama3-8b", *command]) == 0
    assert json.loads(capsys.readouterr().out) == found | {"model": "llama3-8b"}
    assert parameter_count(read_shape(path)) == parameter_count(PRESETS["llama3-8b"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"model_type": "rwkv"},
            "model_type: 'rwkv' is not allowed; use one of llama, mistral, qwen2,",
        ),
        (
            {"model_type": "mixtral"},
            "model_type: 'mixtral' is not allowed; use `footprint rehearse` with --hf-config or a script that trains "
            "it: it has experts and their router, as no block here does",
        ),
        ({"model_type": "gemma2"}, "it has norms on both sides of attention and MLP, as no block here does"),
        ({"model_type": "t5"}, "it has an encoder and attention across, as no block here does"),
        ({"model_type": "gone"}, "model_type: None is not allowed"),
        ({"model_type": ["llama"]}, "model_type: ['llama'] is not allowed"),
        ({"mlp_bias": True}, "mlp_bias: True is not allowed; use false, or attention_bias: true beside it"),
        (
            {"model_type": "stablelm", "qk_layernorm": True},
            "qk_layernorm: True is not allowed; use False: no block here has such tensors",
        ),
        (
            {"model_type": "phi3", "partial_rotary_factor": "0.5"},
            "partial_rotary_factor: '0.5' is not allowed; use a whole",
        ),
        ({"hidden_size": "gone"}, "hidden_size: is missing; a llama config has it"),
        ({"head_dim": 127}, "head_dim: 127 is not allowed; use an even width per head"),
        (
            {"num_attention_heads": 7},
            "num_attention_heads: 7 is not allowed; use a divisor of width 4096, or give head_width",
        ),
        ({"num_hidden_layers": "32"}, "num_hidden_layers: '32' is not allowed; use a whole number from 1 to 1024"),
        ({"attention_bias": "false"}, "attention_bias: 'false' is not allowed; use true or false"),
        ({"hidden_act": "snake"}, "hidden_act: 'snake' is not allowed; use one of silu, "),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            "quantization_config: 'gptq' is not allowed; use the config.json of the model it was made from",
        ),
        ({"hidden_size": None}, "hidden_size: None is not allowed; use a whole number"),
    ],
)
def test_a_model_that_is_not_one_of_ours_is_refused_by_name(changes, sentence, tmp_path):
    with pytest.raises(FootprintError) as refused:
        read_shape(written(tmp_path, **changes))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff\xfe", b"[" * 10**5, b'{"model_type": 1e999}'])
def test_what_is_no_config_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(FootprintError, match="config.json"):
        read_shape(tmp_path / "config.json")


def test_brackets_in_a_string_are_no_levels(tmp_path):
    told = {"model_type": "mamba", "chat_template": "[" * 5000, "deep": "LISTS"}
    path = tmp_path / "config.json"
    for levels, said in ((99, "model_type: 'mamba' is not allowed"), (100, "is not JSON (more than 100 levels deep)")):
        path.write_text(json.dumps(told).replace('"LISTS"', "[" * levels + "]" * levels))
        with pytest.raises(FootprintError, match=re.escape(said)):
            read_shape(path)


def test_a_pipe_or_a_file_that_is_too_large_is_refused(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(FootprintError, match="is not a regular file but a pipe"):
        read_shape(tmp_path / "config.json")
    (tmp_path / "large.json").write_bytes(b" " * 2**20 + b"{}")
    with pytest.raises(FootprintError, match="is larger than 1 MiB"):
        read_shape(tmp_path / "large.json")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "--hf-config", str(tmp_path / "absent.json"), "--gpu-memory", "24GiB"])
    assert ended.value.code == 2
    assert "absent.json: cannot be read (No such file or directory)" in capsys.readouterr().err
