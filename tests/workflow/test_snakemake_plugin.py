"""Snakemake with this project's plugin: no config file runs code or ends in a traceback, and the terminal is calm."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clone import REPOSITORY, Clone
from noconfigs import NO_CONFIGS
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_footprint import terminal
from snakemake_logger_plugin_footprint.configfiles import strict


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Snakemake as a user starts it in a folder."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--nolock", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def unused(path: Path) -> dict:
    raise AssertionError(f"{path} was read in Snakemake's own way")


# --- config files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [content for content, _ in NO_CONFIGS.values()], ids=NO_CONFIGS.keys())
def test_snakemake_answers_a_bad_file_in_one_sentence(content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        strict(unused)(path)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: ")
    assert said.count("\n") == 1


BROUGHT = {
    "a template that runs code": b"__use_yte__: true\nexperiment: ?open('owned', 'w').name\n",
    "Latin-1": NO_CONFIGS["Latin-1"][0],
    "a tab": NO_CONFIGS["a tab for indentation"][0],
    "nothing": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("content", BROUGHT.values(), ids=BROUGHT.keys())
def test_a_bad_file_on_the_command_line_runs_nothing_and_shows_no_traceback(content, tmp_path):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    before = set(REPOSITORY.iterdir())
    done = snakemake(REPOSITORY, "--configfile", str(path))
    assert done.returncode == 2
    assert re.fullmatch(rf"error: {re.escape(str(path))}: [^\n]+\n", done.stderr)
    assert set(REPOSITORY.iterdir()) == before


@pytest.mark.slow
def test_a_folder_in_place_of_a_config_file_is_one_sentence(tmp_path):
    done = snakemake(REPOSITORY, "--configfile", str(tmp_path))
    said = "cannot be read as a config file (is not a regular file but a directory)"
    assert done.stderr == f"error: {tmp_path}: {said}\n"


@pytest.mark.slow
def test_a_pipe_as_a_config_file_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(pipe := tmp_path / "mine.yaml")
    done = snakemake(REPOSITORY, "--configfile", str(pipe))
    said = "cannot be read as a config file (is not a regular file but a pipe)"
    assert (done.returncode, done.stderr) == (2, f"error: {pipe}: {said}\n")


ENTRIES = ["device", "=x", "device:cuda", "x=1", "device-=cuda", "experiment= ", "a\nb"]


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_no_entry_of_config_is_one_sentence(entry):
    done = snakemake(REPOSITORY, "--config", "experiment=trial", entry)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --config: {entry!r} is not allowed; use key=value ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_workflow_of_another_project_keeps_snakemakes_own_reader(tmp_path):
    (tmp_path / "Snakefile").write_text("rule all:\n    params: config['a']['b']\n    shell: 'true'\n")
    (tmp_path / "theirs.yaml").write_text("x: &x {b: 1}\na: *x\n")
    assert snakemake(tmp_path, "--configfile", "theirs.yaml").returncode == 0
    assert "Traceback" in snakemake(tmp_path, "--config", "device").stdout


@pytest.mark.slow
def test_a_clone_plans_with_its_own_source(tmp_path):
    """Not with that of the clone the environment was installed from, which the plugin may be."""
    clone = Clone.make(tmp_path)
    grid = tmp_path / "src" / "footprint" / "spec" / "grid.py"
    grid.write_text(grid.read_text().replace("MOST_RUNS = 20_000", "MOST_RUNS = 2"))
    assert "grids: 3 is not allowed; use at most 2 runs" in clone.snakemake("--dry-run", status=2)


# --- the terminal ----------------------------------------------------------------------------------------------------


def lines(event: LogEvent | None, level: int = logging.INFO, **fields: object) -> list[str]:
    """What a record of Snakemake's is worth to a person."""
    return list(terminal.said(logging.makeLogRecord({"levelno": level, "event": event} | fields)))


def test_a_step_is_a_word_and_a_run_is_left_to_the_progress_line():
    assert lines(LogEvent.JOB_INFO, rule_name="predict", output=["a.csv"]) == ["predict ..."]
    assert lines(LogEvent.JOB_INFO, rule_name="measure", output=["a.json"]) == []
    assert lines(LogEvent.JOB_INFO, rule_name="all", output=[]) == []


def test_chatter_is_left_to_the_log_and_a_warning_is_not():
    assert lines(None, msg="Select jobs to execute...") == []
    assert lines(LogEvent.PROGRESS, msg="", done=1, total=2) == []
    assert lines(None, logging.WARNING, msg="the disk is nearly full") == ["the disk is nearly full"]
    assert lines(LogEvent.ERROR, logging.ERROR, msg="WorkflowError:\nAt least one job did not complete") == []


def test_a_group_that_fails_names_each_job_with_its_reason(tmp_path):
    log = tmp_path / "run.log"
    log.write_text("worker: started\nerror: no luck\n")
    jobs = [{"rule_name": "measure", "log": [str(log)]}, {"rule_name": "finetune", "log": []}]
    assert lines(LogEvent.GROUP_ERROR, logging.ERROR, job_error_info=jobs) == [
        "measure failed: no luck",
        f"  log: {log}",
        "finetune failed: it left no word",
    ]


@pytest.mark.slow
def test_an_experiment_is_a_line_a_step_and_a_failed_run_two(tmp_path):
    clone = Clone.make(tmp_path)
    script = tmp_path / "scripts" / "measure.py"
    source = script.read_text()
    script.write_text("import sys\nif 'qlora' in sys.argv[2]:\n    sys.exit('error: no luck')\n" + source)
    calm = ("results/tiny/cpu/comparison.csv", "--logger", "footprint")
    failed = clone.snakemake(*calm, "--keep-going", status=1).splitlines()
    at = failed.index("measure failed: no luck")
    assert re.fullmatch(r"  log: results/tiny/cpu/logs/\S*regime~qlora\S*\.log", failed[at + 1])
    script.write_text(source)
    steps = [line for line in clone.snakemake(*calm).splitlines() if line.endswith(" ...")]
    assert {"gather ...", "compare ..."} <= set(steps)
    nothing = "Nothing to be done: all that was asked for is there and up to date"
    assert clone.snakemake(*calm).splitlines()[-1] == f"{nothing}."
    (clone.results / "report.html").touch()
    assert clone.snakemake(*calm).splitlines()[-1] == f"{nothing}; the report is results/tiny/cpu/report.html."
    assert "Job stats" in clone.snakemake(*calm, "--dry-run", "--forceall"), "a plan is shown as usual"
