"""What the tables of an experiment were made of: settings, inputs and outputs by hash, versions, commit."""

import json
import os
import platform
import shlex
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from footprint.experiment.config import Experiment
from footprint.experiment.resolved import read_experiment
from footprint.files import sha256
from footprint.measure.provenance import cpu_name, git_commit, package_version
from footprint.tables.gather import MUST_AGREE
from footprint.tables.rows import read_table
from footprint.text.corpus import require_as_prepared

PACKAGES = ("torch", "peft", "bitsandbytes", "transformers", "numpy", "pandas", "snakemake")
"""Whose versions are written down beside Python's; the environment's lock pins the rest."""

PROFILES = {"cpu": "profiles/local", "cuda": "cloud-gpu"}
"""Where a device's runs are measured unless a cluster is asked."""
REHEARSAL = "rehearsal"
"""The profile of an experiment that names a card."""


def manifest(experiment: Path, texts: Iterable[Path], tables: Iterable[Path]) -> dict[str, object]:
    """The manifest of the experiment whose resolved configuration is the file `experiment`.

    `texts` are what it trained on, `tables` its CSVs, `measurements.csv` among them. Paths as given are the keys.
    Raises FootprintError for a text that was changed after it was prepared.
    """
    described = read_experiment(experiment)
    texts, tables = list(texts), list(tables)
    for text in texts:
        require_as_prepared(text)
    commit = git_commit()
    return {
        "experiment": described.name,
        "device": described.device,
        "card": described.card,
        "again": again(experiment, described),
        "measured": _measured(read_table(next(path for path in tables if path.name == "measurements.csv"))),
        "gathered": {
            "commit": commit.removesuffix("-dirty"),
            "source_changed_since_commit": None if commit == "unknown" else commit.endswith("-dirty"),
            "python": platform.python_version(),
            **{name: package_version(name) for name in PACKAGES},
            "os": _system(),
            "kernel": f"{platform.system()} {platform.release()}",
            "processor": cpu_name(),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        },
        "config": json.loads(experiment.read_text(encoding="utf-8")),
        "inputs": {str(path): sha256(path) for path in texts},
        "tables": {str(path): sha256(path) for path in tables},
    }


def again(path: Path, experiment: Experiment) -> str:
    """The command that measures all of an experiment anew: its resolved configuration, which `path` holds, laid over
    the published one.
    """
    rules = ["measure", *(["finetune"] if experiment.study else [])]
    profile = ["--profile", PROFILES[experiment.device] if experiment.card is None else REHEARSAL]
    return shlex.join(["snakemake", *profile, "--configfile", str(path), "--forcerun", *rules])


def _measured(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Every value of what rows should agree in, and when the first and the last were measured."""
    values = {name: sorted(rows[name].dropna().astype(str).unique()) for name in MUST_AGREE}
    return values | {"measured_at": [str(rows["measured_at"].min()), str(rows["measured_at"].max())]}


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()
