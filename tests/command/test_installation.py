"""A light installation answers whether a model fits; what needs more says what to install."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from clone import REPOSITORY, Clone

ASKED = ["predict", "--model", "llama-7b", "--regime", "qlora", "--gpu-memory", "24GiB", "--json"]
HEAVY = {"torch", "pandas", "snakemake", "matplotlib", "peft", "transformers"}


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> Path:
    """The programs of an environment with the package and what it depends on, nothing else."""
    folder = tmp_path_factory.mktemp("light")
    source = folder / "clone"
    Clone.make(source)
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    programs = folder / "environment" / "bin"
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(source)], check=True, capture_output=True)
    return programs


def footprint(programs: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command as that environment installs it, started elsewhere than in the clone."""
    return subprocess.run([programs / "footprint", *arguments], cwd=programs, capture_output=True, text=True)


@pytest.mark.slow
def test_a_light_installation_holds_no_framework(light):
    listed = subprocess.run(
        [light / "python", "-m", "pip", "list", "--format", "json"], check=True, capture_output=True, text=True
    )
    installed = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"footprint", "numpy", "jsonschema", "pyyaml"} <= installed
    assert not installed & HEAVY


@pytest.mark.slow
def test_it_predicts_and_searches_as_the_whole_one_does(light):
    here = subprocess.run(
        [sys.executable, "-c", "from footprint.command.main import main; raise SystemExit(main())", *ASKED],
        env={"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
    )
    done = footprint(light, *ASKED)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(here.stdout)
    assert footprint(light, "fit", "--model", "llama-7b", "--gpu-memory", "24GiB").returncode == 0


@pytest.mark.slow
def test_a_config_file_is_read_too(light, tmp_path):
    (tmp_path / "mine.yaml").write_text("models: {mine: {layers: 2, width: 64, heads: 4, vocab: 256, context: 512}}\n")
    asked = ["predict", "--config", str(tmp_path / "mine.yaml"), "--model", "mine", "--regime", "lora"]
    assert footprint(light, *asked).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        (["measure", "--model", "minigpt-3m", "--regime", "lora"], "torch"),
        (["verify"], "pandas"),
        (["--print-completion", "bash"], "shtab"),
    ],
)
def test_what_needs_more_says_what_to_install(light, asked, missing):
    done = footprint(light, *asked)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert missing in done.stderr
    assert "not installed" in done.stderr
    assert "make install" in done.stderr
