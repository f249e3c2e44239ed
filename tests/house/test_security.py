"""What a config or a file from elsewhere cannot do here: run code, or reach a shell through what a rule runs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from clone import REPOSITORY

from footprint.experiment.schema import config_schema

SOURCES = sorted(
    path
    for folder in ("src", "scripts", "report", "envs", "tests/reference")
    for path in REPOSITORY.glob(f"{folder}/**/*.py")
)
RULES = sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))

UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Modules whose files can run code when they are read."""
NEVER = {
    "eval": "runs text",
    "exec": "runs text",
    "os.system": "is a shell",
    "os.popen": "is a shell",
    "subprocess.getoutput": "is a shell",
    "subprocess.getstatusoutput": "is a shell",
    "pd.read_pickle": "unpickles",
    "tempfile.mktemp": "races",
    "yaml.unsafe_load": "makes any object",
    "yaml.full_load": "makes some objects",
    "yaml.unsafe_load_all": "makes any object",
    "yaml.full_load_all": "makes some objects",
    "ssl._create_unverified_context": "believes anybody",
}
MUST = {"torch.load": ("weights_only", True)}
"""Calls that need a keyword to be safe."""
MUST_NOT = {("shell", True), ("allow_pickle", True), ("verify", False), ("trust_remote_code", True)}
"""Keywords no call may have."""


def dangers(text: str) -> Iterator[str]:
    """What in a Python source could run what it reads."""
    tree = ast.parse(text)
    safe = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "yaml.SafeLoader" in map(ast.unparse, node.bases)
    } | {"yaml.SafeLoader", "yaml.CSafeLoader"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in UNPICKLING)
        elif isinstance(node, ast.Call):
            yield from _of_call(ast.unparse(node.func), {word.arg: word.value for word in node.keywords}, safe)


def _of_call(name: str, keywords: dict, safe: set[str]) -> Iterator[str]:
    constants = {key: value.value for key, value in keywords.items() if isinstance(value, ast.Constant)}
    if name in NEVER:
        yield f"{name} {NEVER[name]}"
    if name in MUST and constants.get(MUST[name][0]) is not MUST[name][1]:
        yield f"{name} without {MUST[name][0]}"
    if name in ("yaml.load", "yaml.load_all") and ast.unparse(keywords.get("Loader", ast.Constant(0))) not in safe:
        yield f"{name} with a loader that makes objects"
    yield from (f"{name} with {key}={value}" for key, value in constants.items() if (key, value) in MUST_NOT)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_source_runs_what_it_reads(path):
    assert list(dangers(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "eval(text)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text, Loader=_PlainLoader)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "requests.get(url, verify=False)",
    ],
)
def test_the_search_finds_what_it_is_for(line):
    assert len(list(dangers(line))) == 1


def test_the_search_reads_every_source():
    assert len(SOURCES) > 80
    assert {"worker.py", "corpus.py", "measure.py", "report.py", "update.py"} <= {path.name for path in SOURCES}


# --- the shell of the rules ------------------------------------------------------------------------------------------

NUMBERS = {
    "seq": ("seq",),
    "held_out": ("corpus", "validation_fraction"),
    "pretraining_held_out": ("corpus", "validation_fraction"),
    "steps": ("quality", "finetuning", "steps"),
    "learning_rate": ("learning_rate",),
    "validate_every": ("quality", "finetuning", "validate_every"),
    "validation_sequences": ("quality", "finetuning", "validation_sequences"),
}
"""Parameters that need no quotes: where the schema says that they are numbers."""


def placeholders(text: str) -> list[tuple[str, bool]]:
    """(name, whether it is quoted) of everything put into the shell blocks of a rule file."""
    blocks = re.findall(r'^    shell:\n        r"""\n(.*?)"""', text, re.M | re.S)
    assert len(blocks) == len(re.findall(r"^    shell:", text, re.M))
    assert not re.search(r"^    (run|script|notebook|wrapper):", text, re.M)
    return [
        (name, conversion == ":q") for block in blocks for name, conversion in re.findall(r"{([^{}:]*)(:\w+)?}", block)
    ]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_what_a_rule_puts_into_its_shell_is_quoted_or_a_number(path):
    for name, quoted in placeholders(path.read_text()):
        assert quoted or (name.startswith("params.") and name.removeprefix("params.") in NUMBERS), name


def test_a_placeholder_without_quotes_is_found():
    text = 'rule a:\n    shell:\n        r"""\n        rm {input.x} {output:q}\n        """\n'
    assert placeholders(text) == [("input.x", False), ("output", True)]


@pytest.mark.parametrize("name", NUMBERS)
def test_what_needs_no_quotes_is_a_number_by_the_schema(name):
    entry = config_schema()["$defs"]
    for number, part in enumerate(NUMBERS[name]):
        entry = entry[part] if number == 0 else entry["properties"][part]
    entry = config_schema()["$defs"][entry["$ref"].rsplit("/", 1)[1]] if "$ref" in entry else entry
    assert entry["type"] in ("integer", "number") or set(_of_each(entry)) == {"number"}


def _of_each(entry: dict) -> Iterator[str]:
    """The types of a mapping's values."""
    for value in entry["properties"].values():
        yield config_schema()["$defs"][value["$ref"].rsplit("/", 1)[1]]["type"]


# --- the environment -------------------------------------------------------------------------------------------------


def test_every_package_but_torch_is_installed_by_its_hash():
    lock = (REPOSITORY / "envs" / "requirements.lock").read_text().replace("\\\n", "")
    pinned = [line for line in lock.splitlines() if not line.startswith("#")]
    assert pinned
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", line) for line in pinned)
    unhashed = (REPOSITORY / "envs" / "torch.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in unhashed if not line.startswith("#")] == ["torch"]
    for recipe in ("Makefile", "envs/Containerfile"):
        assert "--no-deps --require-hashes -r" in (REPOSITORY / recipe).read_text()


def test_nothing_here_is_writable_by_others():
    tracked = [
        path for folder in ("src", "scripts", "workflow", "profiles") for path in Path(REPOSITORY, folder).rglob("*")
    ]
    assert not [path for path in tracked if path.is_file() and path.stat().st_mode & 0o002]
