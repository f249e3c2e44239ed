"""The machine the runs were measured on, and when: from the rows, and from the manifest beside them."""

import json
from datetime import datetime
from pathlib import Path

import pandas as pd

from footprint.report.page.words import counted, listing, percent
from footprint.spec.units import format_bytes

MANIFEST = "manifest.json"


def when(runs: pd.DataFrame) -> str:
    """The day or days of the runs: `24 November 2026`, `24 to 25 November 2026`."""
    moments = [datetime.fromisoformat(text) for text in sorted(runs["measured_at"].astype(str))]
    first, last = moments[0].date(), moments[-1].date()
    end = f"{last.day} {last:%B %Y}"
    if first == last:
        return end
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {end}"
    return f"{first.day} {first:%B %Y} to {end}"


def system(directory: Path, runs: pd.DataFrame) -> str:
    """Processor or GPU, threads, memory, operating system and load, in one line of plain text."""
    names = listing(dict.fromkeys(runs["device_name"].astype(str)))
    threads = listing(counted(int(number), "thread") for number in sorted(set(runs["threads"].dropna())))
    hosts = listing(dict.fromkeys(runs["host_driver"].astype(str)))
    return "; ".join([names, threads, memory(directory, runs), hosts, load(runs)])


def memory(directory: Path, runs: pd.DataFrame) -> str:
    """The memory of the machine, if the manifest was gathered on the one that measured."""
    path = directory / MANIFEST
    gathered = json.loads(path.read_text(encoding="utf-8"))["gathered"] if path.exists() else {}
    same = set(runs["device_name"].astype(str)) == {gathered.get("processor")}
    return (
        f"{format_bytes(gathered['memory_bytes'])} of memory"
        if same and "memory_bytes" in gathered
        else "memory not recorded"
    )


def load(runs: pd.DataFrame) -> str:
    """How much of the processors something else used while steps were timed."""
    found = runs["neighbour_load"].astype(float)
    if found.isna().all():
        return "load by others not recorded"
    usual, most = percent(found.median()), percent(found.max())
    return f"others used {usual} of the processors while steps were timed, at most {most}"
