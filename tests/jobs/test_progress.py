"""The lines a person follows in the terminal."""

import os
import time
from pathlib import Path

import pytest

from footprint.jobs.progress import Progress
from footprint.spec.columns import MEASUREMENTS, TUNED
from footprint.tables.rows import write_row

RUN = {"status": "ok", "peak_bytes": 3 * 2**20, "regime": "lora", "rank": 8}


def write(path: Path, **values: object) -> str:
    write_row(path, dict.fromkeys(MEASUREMENTS) | RUN | values, MEASUREMENTS)
    return str(path)


@pytest.fixture
def progress(monkeypatch, tmp_path) -> Progress:
    monkeypatch.setattr("footprint.jobs.progress._SECONDS_BETWEEN_LOOKS", 3600)
    return Progress(headline=tmp_path / "headline.txt", report=Path("report.html"))


def test_it_tells_how_many_runs_are_done_the_last_peak_and_the_time_left(progress, tmp_path, capsys):
    progress.start(("measure", str(tmp_path / f"{number}.json")) for number in range(3))
    write(tmp_path / "1.json")
    progress.look()
    first, line = capsys.readouterr().err.splitlines(keepends=True)
    assert first == "0 of 3 runs done\n"
    assert line.startswith("1 of 3 runs done, the last (lora, rank 8) peaked at 3.00 MiB; about ")
    assert line.endswith(" left\n")


def test_a_fine_tuning_counts_as_a_run_like_any_other(progress, tmp_path, capsys):
    row = tmp_path / "tuned.json"
    progress.start([("measure", str(tmp_path / "0.json")), ("finetune", str(row))])
    write_row(row, dict.fromkeys(TUNED) | {"status": "ok", "peak_bytes": 2**20, "regime": "full", "rank": 0}, TUNED)
    progress.look()
    assert "1 of 2 runs done, the last (full) peaked at 1.00 MiB; " in capsys.readouterr().err


def test_it_says_nothing_twice_and_no_time_is_left_at_the_end(progress, tmp_path, capsys):
    progress.start([("measure", str(tmp_path / "0.json"))])
    write(tmp_path / "0.json", status="oom")
    progress.look()
    progress.look()
    assert capsys.readouterr().err == "0 of 1 runs done\n1 of 1 runs done, the last (lora, rank 8) ended: oom\n"


def test_rows_of_an_earlier_invocation_do_not_count(progress, tmp_path, capsys):
    old = write(tmp_path / "0.json")
    os.utime(old, (1, 1))
    progress.start([("measure", old)])
    progress.look()
    assert "1 of 1" not in capsys.readouterr().err


def test_it_ends_with_findings_only_if_they_are_new(progress, tmp_path, capsys):
    headline = tmp_path / "headline.txt"
    headline.write_text("one\ntwo\nthree\n")
    progress.start([])
    os.utime(headline, (time.time() - 10,) * 2)
    progress.finish()
    assert capsys.readouterr().err == ""
    os.utime(headline, (time.time() + 10,) * 2)
    progress.finish()
    assert capsys.readouterr().err == "one\ntwo\nthree\nReport: report.html\n"
