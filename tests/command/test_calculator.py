"""The calculator, without a browser: its state is a command line, and its answer is that command line's."""

import json
import shlex
import subprocess
import sys

import pytest
from clone import REPOSITORY

from footprint.command import main as cli
from footprint.command.calculator.answer import parts, single_changes
from footprint.command.calculator.browser import config_read
from footprint.command.calculator.nearest import nearest
from footprint.command.calculator.question import question, sizes_in
from footprint.errors import FootprintError
from footprint.predict.fit import cheapest_change
from footprint.predict.prediction import predict
from footprint.spec.cards import catalogue

STATE = {"model": "minigpt-85m", "regime": "lora", "rank": "8", "batch": "4", "seq": "256"}
ON_CARD = STATE | {"model": "gpt2-124m", "regime": "full", "batch": "64", "seq": "1024", "card": "t4"}
SIZES = {"model": "custom", "layers": "2", "width": "64", "heads": "4", "vocab": "96", "context": "64"}
MISTAKES = [
    {"rank": "0"},
    {"rank": "many"},
    {"rank": "-3"},
    {"rank": "9" * 40},
    {"batch": "1.5"},
    {"batch": "99999999999"},
    {"seq": "5000"},
    {"targets": "everything"},
    {"optimizer": "adamw-8bit"},
    {"model": "minigtp-85m"},
    {"model": ""},
    {"regime": ""},
    {"card": "t5"},
    {"card": "t4", "gpu-memory": "a lot"},
    {"gpu-memory": "2000"},
    SIZES | {"layers": ""},
    SIZES | {"layers": "0"},
    SIZES | {"width": "wide"},
    SIZES | {"heads": "5"},
    SIZES | {"vocab": "99999999999999999999999999"},
    SIZES | {"tied_head": "perhaps"},
    SIZES | {"block": "mamba"},
    SIZES | {"positions": "rotary", "head_width": "7"},
]


def answer(state: dict, reference: tuple = ()) -> dict[str, list[dict]]:
    """The parts of an answer by their name."""
    found: dict[str, list[dict]] = {}
    for part in parts(state, reference):
        found.setdefault(part["part"], []).append(part)
    return found


def first(state: dict) -> dict:
    return next(parts(state, ()))


def said_by_command_line(words: tuple[str, ...]) -> str:
    """What another process says on stderr."""
    program = "import sys; from footprint.command.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY).stderr


@pytest.mark.parametrize("state", [STATE, ON_CARD, SIZES | {"regime": "qlora", "rank": "4", "seq": "64"}])
def test_the_command_that_is_shown_prints_the_json_of_the_answer(state, capsys):
    part = first(state)
    program, *words = shlex.split(part["command"])
    assert program == "footprint"
    assert cli.main([*words, "--json"]) in (0, 1)
    assert capsys.readouterr().out == part["json"] + "\n"


@pytest.mark.parametrize("wrong", MISTAKES, ids=lambda wrong: ",".join(f"{k}={v}" for k, v in wrong.items())[:60])
def test_what_is_wrong_is_said_as_the_command_line_says_it(wrong, capsys):
    state = STATE | wrong
    part = first(state)
    assert part["part"] == "mistake"
    with pytest.raises(FootprintError) as refused:
        question(state)
    assert part["sentence"] == str(refused.value)
    assert len(part["sentence"]) < 400


def test_the_sentence_is_that_of_the_real_command_line():
    words = ("predict", "--model", "minigpt-85m", "--regime", "lora", "--rank", "many")
    assert f"error: {first(STATE | {'rank': 'many'})['sentence']}\n" == said_by_command_line(words)


def test_axes_that_full_fine_tuning_does_not_have_are_left_out_of_its_command():
    assert first(STATE | {"regime": "full", "rank": "nonsense"})["command"] == (
        "footprint predict --model minigpt-85m --regime full --batch 4 --seq 256"
    )


def test_as_markdown_it_is_the_same_answer():
    part = first(ON_CARD)
    assert f"**{part['peak']}**" in part["markdown"]
    assert f"```console\n{part['command']}\n```" in part["markdown"]
    for name, size, *_ in part["buckets"]:
        assert f"| {name} | {size} |" in part["markdown"]
    assert part["verdict"] in part["markdown"]


def test_the_cheapest_change_is_that_of_the_command_line():
    wanted = question(ON_CARD)
    change = cheapest_change(wanted.spec, wanted.capacity, wanted.training)
    (said,) = answer(ON_CARD)["cheapest"]
    assert said["change"] == {change.axis: str(getattr(change.changed.spec, change.axis))}
    assert "cheapest" not in answer(ON_CARD | {"batch": "1"})


def test_every_change_is_predicted_as_if_it_were_asked_for():
    found = answer(ON_CARD)
    wanted = question(ON_CARD)
    assert len(found["change"]) == len(list(single_changes(wanted.spec))) > 5
    for part in found["change"]:
        changed = first(ON_CARD | part["change"])
        assert (part["peak"], part["fits"]) == (changed["peak"], changed["fits"])


def test_every_card_gets_the_verdict_that_it_gets_alone():
    found = {part["card"]: part["fits"] for part in answer(ON_CARD)["card"]}
    assert set(found) == set(catalogue())
    assert {True, False} == set(found.values())
    for card, fits in found.items():
        assert first(ON_CARD | {"card": card})["fits"] == fits


def test_the_timeline_reaches_the_peak_of_what_tensors_request():
    part = answer(ON_CARD)["timeline"][0]
    heights = [sum(shares) for shares in zip(*part["buckets"].values(), strict=True)]
    assert max(heights) == pytest.approx(1)
    assert part["highest"] == next(row[1] for row in first(ON_CARD)["on_card"] if row[0] == "requested")


def test_the_nearest_run_is_itself_where_it_was_measured():
    spec = question(STATE).spec
    row = spec.axes() | {"source": "measured", "where": "a CPU", "device": "cpu", "card": None}
    row |= {"peak_bytes": 2**30, "predicted_bytes": predict(spec)["peak_bytes"], "textbook_bytes": 2**29}
    other = row | {"regime": "full", "rank": 0, "targets": "none", "peak_bytes": 1}
    rehearsed = row | {"source": "rehearsed", "device": "cuda", "card": "t4"}
    found = nearest(spec, [other, rehearsed, row])
    assert found["differs"] == []
    assert [shown["source"] for shown in found["rows"]] == ["measured", "rehearsed"]
    assert nearest(spec, [other])["differs"] == ["regime", "rank", "targets"]
    assert nearest(spec, []) is None


# --- a dropped config.json -------------------------------------------------------------------------------------------

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 176,
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


QWEN3 = LLAMA | {"model_type": "qwen3", "hidden_size": 66, "head_dim": 16, "tie_word_embeddings": False}
NEOX = {
    "model_type": "gpt_neox",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 176,
    "vocab_size": 96,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize("told", [LLAMA, QWEN3, NEOX], ids=lambda told: told["model_type"])
def test_the_sizes_of_a_dropped_config_are_the_model_that_the_command_line_reads(told, tmp_path, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(told))
    axes = {"regime": "lora", "rank": "4", "seq": "64"}
    given = json.loads(first(sizes_in(config) | axes)["json"])
    words = [word for name, value in axes.items() for word in (f"--{name}", value)]
    assert cli.main(["predict", "--hf-config", str(config), *words, "--json"]) == 0
    assert given | {"model": ""} == json.loads(capsys.readouterr().out) | {"model": ""}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"3", b"\xff\xfe", json.dumps({"model_type": "mamba"}).encode(), b"{}", b" " * 10_000_000]
)
def test_a_wrong_config_gets_the_sentence_of_the_command_line(content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("footprint.command.calculator.browser.FOLDER", tmp_path)
    mistake = json.loads(config_read("config.json", content))["mistake"]
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(SystemExit):
        cli.main(["predict", "--hf-config", "config.json", "--regime", "full"])
    assert capsys.readouterr().err == f"error: {mistake}\n"


# --- what a browser has ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [STATE, ON_CARD])
def test_a_whole_answer_needs_the_standard_library_alone(state):
    """Site-packages are out of reach, as in a browser."""
    program = (
        "import json, sys\n"
        "from footprint.command.calculator.answer import parts\n"
        f"print(len(list(parts(json.loads({json.dumps(json.dumps(state))}), ()))))\n"
        "print(*sys.modules)"
    )
    command = [
        sys.executable,
        "-S",
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'src')!r})\n{program}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, modules = done.stdout.splitlines()
    assert int(count) > 30
    assert not {"numpy", "pandas", "torch", "yaml", "jsonschema"} & set(modules.split())
