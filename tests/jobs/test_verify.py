"""The smoke experiment measures the committed bytes; `footprint verify` tells when an experiment does not repeat."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from clone import REPOSITORY, Clone
from cpu_kernels import KNOWN_KERNELS
from reference.update import SMOKE, changes, exact, folder_of
from runfiles import finish

from footprint.command.main import main
from footprint.experiment.resolved import read_experiment
from footprint.experiment.yaml_file import load
from footprint.jobs import verify
from footprint.spec.columns import EXACT
from footprint.tables import checksums as report_checksums
from footprint.tables.rows import read_table, write_table

AGAIN = verify.again


# --- through the workflow --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Clone:
    """A clone in which the runs of the smoke experiment have been measured; their bytes do not depend on the text."""
    clone = Clone.make(tmp_path_factory.mktemp("smoke"))
    config = load(REPOSITORY / "config" / "config.yaml", REPOSITORY / "config" / "smoke.yaml")
    clone.configure(grids=config["grids"], training=config["training"], report={"third_opinion": False})
    clone.snakemake("results/tiny/cpu/manifest.json")
    return clone


@pytest.mark.slow
def test_the_smoke_experiment_measures_the_committed_bytes(smoke):
    measured, committed = exact(read_table(smoke.results / "measurements.csv")), read_table(SMOKE)
    if not KNOWN_KERNELS:
        measured, committed = (rows[rows["precision"] == "fp32"] for rows in (measured, committed))
    assert len(measured)
    assert changes(committed, measured) == []
    if not KNOWN_KERNELS:
        pytest.skip("half-precision rows were committed from a CPU with AVX512-bf16 and no AMX; fp32 rows are the same")


def test_the_committed_rows_are_the_smoke_experiments():
    rows = read_table(SMOKE)
    assert list(rows.columns) == list(exact(rows).columns)
    assert (rows["status"] == "ok").all()
    assert set(rows["precision"]) == {"mixed", "amp", "bf16", "fp32"}


@pytest.mark.slow
def test_verify_repeats_a_run_in_a_fresh_process(smoke):
    before = {path: path.stat().st_mtime_ns for path in smoke.root.rglob("*") if ".snakemake" not in path.parts}
    done = smoke.footprint("verify", "--experiment", "tiny", "--rows", "1", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("measuring 1 of 15 runs of results/tiny/cpu again (--seed 3)\n")
    assert f"all {len(EXACT)} columns the same" in done.stdout
    after = {path: path.stat().st_mtime_ns for path in smoke.root.rglob("*") if ".snakemake" not in path.parts}
    assert after == before


@pytest.mark.slow
def test_the_command_in_the_manifest_measures_the_same_experiment_again(smoke):
    words = json.loads((smoke.results / "manifest.json").read_text())["again"].split()
    assert words[0] == "snakemake"
    assert words[-2:] == ["--forcerun", "measure"]

    def planned(*arguments: str) -> str:
        command = [sys.executable, "-m", "snakemake", "results/tiny/cpu/manifest.json", "--dry-run", *arguments]
        done = subprocess.run(command, cwd=smoke.root, capture_output=True, text=True)
        return done.stdout + done.stderr

    assert "Nothing to be done" in planned(*words[1:-2]), "it describes what is there"
    assert re.search(r"^measure +15$", planned(*words[1:]), re.M)


# --- what verify says ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A finished experiment in results/trial/cpu whose runs repeat exactly."""
    monkeypatch.chdir(tmp_path)
    finish(Path("results/trial/cpu"))
    monkeypatch.setattr(verify, "again", lambda run: run.row)
    return Path("results/trial/cpu")


def plus_one(row: dict, column: str) -> dict:
    return row | {column: (row[column] or 0) + 1}


def verified(capsys, *arguments: str) -> tuple[int, str]:
    status = main(["verify", "--experiment", "trial", *arguments])
    return status, capsys.readouterr().out


def test_what_repeats_is_said_run_by_run(folder, capsys):
    status, printed = verified(capsys)
    assert status == 0
    assert printed.count(f"all {len(EXACT)} columns the same") == 3


def test_the_printed_seed_chooses_the_same_runs_again(folder, capsys):
    _, first = verified(capsys)
    seed = first.split("(--seed ")[1].split(")")[0]
    assert verified(capsys, "--seed", seed)[1] == first
    others = {verified(capsys, "--seed", str(other))[1].split("\n", 1)[1] for other in range(5)}
    assert len(others) > 1


@pytest.mark.parametrize("column", [name for name in EXACT if name.endswith("_bytes")])
def test_one_byte_more_in_any_column_is_a_difference(folder, capsys, monkeypatch, column):
    monkeypatch.setattr(verify, "again", lambda run: plus_one(run.row, column))
    status, printed = verified(capsys, "--rows", "1")
    assert status == 1
    assert f": DIFFERS in {column} " in printed


def test_a_difference_is_explained_by_another_version(folder, capsys, monkeypatch):
    monkeypatch.setattr(verify, "again", lambda run: run.row | {"peak_bytes": 1, "torch_version": "3.0"})
    assert "(and torch_version 2.13.0 -> 3.0)" in verified(capsys, "--rows", "1")[1]


def test_times_and_dates_may_differ(folder, capsys, monkeypatch):
    other = {"step_seconds": 9.0, "measured_at": "2027", "process_peak_bytes": 1, "tokens_per_second": 1.0}
    monkeypatch.setattr(verify, "again", lambda run: run.row | other)
    assert verified(capsys)[0] == 0


def test_a_missing_run_file_is_named_and_the_others_are_measured(folder, capsys):
    gone = sorted((folder / "runs").iterdir())[0]
    gone.unlink()
    status, printed = verified(capsys)
    assert status == 1
    assert problems(printed) == [f"{gone}: is missing; run the workflow again"]
    assert printed.count("columns the same") == 3


@pytest.mark.parametrize("name", ["measurements", "predictions", "comparison"])
def test_an_edited_table_is_told_from_its_run_files(folder, capsys, name):
    table = folder / f"{name}.csv"
    column = "peak_bytes_predicted" if name == "comparison" else "peak_bytes"
    write_table(table, read_table(table).assign(**{column: 1}))
    status, printed = verified(capsys)
    assert status == 1
    assert problems(printed) == [f"{table}: is not what its run files say; {ANEW}"]


def problems(printed: str) -> list[str]:
    """What verify says before it measures."""
    return printed.split("measuring ")[0].splitlines()


ANEW = "delete it and run the workflow again"


def rendered(folder: Path) -> None:
    """Leave a report of the experiment in `folder` as the workflow does."""
    (folder / "manifest.json").write_text("{}")
    files = [folder / name for name in report_checksums.RENDERED]
    for page in files:
        page.write_text("Full FT needs 1 GiB\n")
    experiment = read_experiment(folder / "experiment.json")
    report_checksums.write_checksums(
        folder / report_checksums.CHECKSUMS, [*files, *report_checksums.made_from(experiment, folder)]
    )


def test_a_report_that_is_as_it_was_rendered_is_no_problem_and_sha256sum_agrees(folder, capsys):
    rendered(folder)
    assert verified(capsys)[0] == 0
    subprocess.run(["sha256sum", "--check", "--strict", report_checksums.CHECKSUMS], cwd=folder, check=True)


@pytest.mark.parametrize("name", report_checksums.RENDERED)
def test_an_edited_page_or_headline_is_told(folder, capsys, name):
    rendered(folder)
    (folder / name).write_text("Full FT needs 2 GiB\n")
    status, printed = verified(capsys)
    assert (status, problems(printed)) == (1, [f"{folder / name}: was changed after it was written; {ANEW}"])
    (folder / name).unlink()
    status, printed = verified(capsys)
    assert (status, problems(printed)) == (1, [f"{folder / name}: is missing; run the workflow again"])


def test_an_edited_manifest_is_told(folder, capsys):
    rendered(folder)
    (folder / "manifest.json").write_text('{"experiment": "another"}')
    (line,) = problems(verified(capsys)[1])
    assert line == f"{folder / 'manifest.json'}: is not what the report was made from; {ANEW}"


def test_checksums_that_are_gone_or_of_other_files_vouch_for_nothing(folder, capsys):
    rendered(folder)
    checksums = folder / report_checksums.CHECKSUMS
    checksums.write_text(checksums.read_text().replace("manifest.json", "../manifest.json"))
    (line,) = problems(verified(capsys)[1])
    assert line == f"{checksums}: does not hold the checksums of this experiment's files; {ANEW}"
    checksums.unlink()
    assert len(problems(verified(capsys)[1])) == len(report_checksums.RENDERED)


@pytest.mark.parametrize("name", ["measurements.csv", "predictions.csv", "comparison.csv"])
@pytest.mark.parametrize("report", [False, True])
def test_a_table_that_is_missing_or_edited_is_one_line_with_or_without_a_report(folder, capsys, name, report):
    if report:
        rendered(folder)
    table = folder / name
    table.write_text(table.read_text() + "x\n")
    (line,) = problems(verified(capsys)[1])
    assert line.startswith(f"{table}: ")
    table.unlink()
    assert problems(verified(capsys)[1]) == [f"{table}: is missing; run the workflow again"]


def test_two_edited_files_are_two_lines_and_none_of_them_is_measured(folder, capsys):
    paths = sorted((folder / "runs").iterdir())[:2]
    for path in paths:
        path.write_text(path.read_text().replace('"peak_phase": "', '"peak_phase": "x'))
    status, printed = verified(capsys, "--rows", "9")
    assert (status, [line.split(": ")[0] for line in problems(printed)]) == (1, [str(path) for path in paths])
    assert printed.count("was changed") == 2
    assert "measuring 3 of 5 runs" in printed


def test_an_edited_timeline_is_told(folder, capsys):
    path = sorted((folder / "timelines").iterdir())[0]
    path.write_text("garbage")
    status, printed = verified(capsys)
    assert status == 1
    assert f"{path}: was changed after it was written; delete {folder / 'runs' / path.stem}.json" in printed


def test_an_edited_run_file_is_told(folder, capsys):
    path = sorted((folder / "runs").iterdir())[0]
    path.write_text(path.read_text().replace('"peak_phase": "', '"peak_phase": "x'))
    status, printed = verified(capsys)
    assert status == 1
    assert f"{path}: was changed after it was written" in printed


def test_a_run_that_cannot_be_measured_again_says_why(folder, capsys, monkeypatch, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "measure.py").write_text("raise SystemExit('error: no luck')")
    monkeypatch.setattr(verify, "REPOSITORY", tmp_path)
    monkeypatch.setattr(verify, "again", AGAIN)
    monkeypatch.setattr(verify, "lend_interpreter", lambda clone: None)
    status, printed = verified(capsys, "--rows", "1")
    assert status == 1
    assert printed.endswith(": could not be measured again: no luck\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--experiment", "absent"], "error: experiment: 'absent' on cpu was not found in results; use trial on cpu"),
        (["--device", "cuda"], "error: experiment: 'trial' on cuda was not found in results; use trial on cpu"),
        (
            ["--experiment", "../trial"],
            "error: experiment: '../trial' on cpu was not found in results; use trial on cpu",
        ),
        (["--device", "tpu"], "error: device: 'tpu' is not allowed; use one of cpu, cuda"),
        (["--rows", "0"], "error: rows: 0 is not allowed; use a whole number from 1"),
        (["--rows", "many"], "error: rows: 'many' is not allowed; use a whole number from 1"),
        (["--seed", "x"], "error: seed: 'x' is not allowed; use a whole number from 0"),
        (["--device", ""], "error: device: '' is not allowed; use one of cpu, cuda"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_sentence(folder, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as ended:
        verified(capsys, *arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert len(said.splitlines()) == 1


# --- the reference's differences -------------------------------------------------------------------------------------


def test_the_difference_to_a_reference_names_run_column_and_both_values(folder):
    rows = exact(read_table(folder / "measurements.csv"))
    assert changes(rows, rows) == []
    other = rows.copy()
    other.loc[0, "peak_bytes"] += 1
    (line,) = changes(rows, other)
    assert line.startswith("minigpt-3m-full-0-none")
    assert line.endswith(f"peak_bytes {rows.loc[0, 'peak_bytes']} -> {other.loc[0, 'peak_bytes']}")
    lines = changes(rows, rows.iloc[1:])
    assert [line.split("-full-")[0] for line in lines] == ["gone: minigpt-3m"]
    assert changes(rows.iloc[1:], rows)[0].startswith("new: minigpt-3m-full")


def test_a_devices_folder_is_named_after_it():
    rows = pd.DataFrame({"device_name": ["AMD EPYC(TM) 9654, 2 cores"]})
    assert folder_of(rows, "cpu") == "cpu-amd-epyc-tm-9654-2-cores"
