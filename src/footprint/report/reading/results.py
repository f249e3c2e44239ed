"""What an experiment's folder tells beside its tables: its configuration, its timelines, where its rows come from."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import yaml

from footprint.experiment.resolved import read_experiment
from footprint.measure.provenance import git_commit
from footprint.predict.prediction import sampled_timeline
from footprint.report.page.words import counted, escape, listing
from footprint.report.reading.selection import headline
from footprint.spec.handover import run_name
from footprint.spec.presets import PRESETS
from footprint.spec.run import AXES
from footprint.spec.timeline import Point, read_timeline
from footprint.tables.gather import differing, uncommitted
from footprint.tables.manifest import again

Timelines = list[tuple[pd.Series, Sequence[Point], Sequence[Point]]]
"""(run, measured samples, predicted samples); either list may be empty, not both."""

EXPERIMENT = "experiment.json"
"""The resolved configuration, as the workflow leaves it beside the tables."""


def config_text(directory: Path) -> str | None:
    """The resolved configuration as YAML, if it was kept."""
    path = directory / EXPERIMENT
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return yaml.safe_dump(found, sort_keys=False, default_flow_style=None, width=100)


def layers(directory: Path) -> dict[str, int]:
    """Blocks of every model whose shape is known: the presets and those of the configuration."""
    path = directory / EXPERIMENT
    own = {run.model for run in read_experiment(path).runs} if path.exists() else set()
    return {model.name: model.layers for model in (*PRESETS.values(), *own)}


def memory_limit(directory: Path) -> int | None:
    """Bytes of the card the runs were held to (`training.memory_limit`), if the configuration was kept and sets it."""
    path = directory / EXPERIMENT
    return read_experiment(path).training.memory_limit if path.exists() else None


def named(run: pd.Series) -> str:
    """The name of a run's files (`handover.run_name` of its row)."""
    return "_".join(f"{axis}~{run[axis]}" for axis in AXES)


def timelines(directory: Path, runs: pd.DataFrame) -> Timelines:
    """The headline runs with their step as measured and as predicted; what was not kept is empty."""
    path = directory / EXPERIMENT
    experiment = read_experiment(path) if path.exists() else None
    specs = {run_name(spec): spec for spec in experiment.runs} if experiment else {}
    found = []
    for _, run in headline(runs).iterrows():
        name = named(run)
        measured = directory / "timelines" / f"{name}.csv"
        points = read_timeline(measured) if measured.exists() else []
        found.append((run, points, sampled_timeline(specs[name], experiment.training) if name in specs else []))
    return found


def mixture(runs: pd.DataFrame) -> str:
    """Whether all rows come from one device, one commit and one set of versions; if not, what differs."""
    parts = [f"{len(values)} {words} ({listing(map(escape, values))})" for words, values in differing(runs).items()]
    together = "All rows come from one device, one commit and one set of versions."
    if parts:
        together = (
            f"**The rows do not come from one place:** {'; '.join(parts)}. "
            "Delete the older run files and the tables and run the workflow again where all "
            f"{len(runs)} must be comparable."
        )
    changed = uncommitted(runs)
    if not changed:
        return together
    return f"{together} No commit holds the source that made some of them ({listing(map(escape, changed))})."


def rerun(directory: Path, experiment: str, device: str) -> str:
    """The commands that make this page again, and when and from which source it was made."""
    commit, now = git_commit(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    path = Path("results", experiment, device, EXPERIMENT)
    anew = ""
    if (directory / EXPERIMENT).exists():
        command = again(path, read_experiment(directory / EXPERIMENT))
        anew = f"<code>{escape(command)}</code> makes all runs anew with the configuration below. "
    return (
        f"{anew}<code>make verify EXPERIMENT={escape(experiment)} DEVICE={escape(device)}</code> carries three of them "
        "out again and compares them byte by byte. <code>manifest.json</code> beside the tables holds that "
        "configuration, the versions, and the hashes of texts and tables. This page was made from them on "
        f"{now} UTC by commit {escape(commit)}."
    )


def study_story(directory: Path) -> str:
    """What the bases of the quality study were pretrained on and how the runs were trained, if that was kept."""
    path = directory / EXPERIMENT
    experiment = read_experiment(path) if path.exists() else None
    if experiment is None or experiment.study is None:
        return ""
    pretraining, finetuning = experiment.study.pretraining, experiment.study.finetuning
    return (
        f"A base is pretrained for {counted(pretraining.steps, 'step')} of {pretraining.batch} × {pretraining.seq} "
        f"tokens on the text of <code>{escape(pretraining.corpus.source)}</code>, then fine-tuned for "
        f"{counted(finetuning.steps, 'step')} on that of <code>{escape(experiment.corpus.source)}</code>. Learning "
        "rates rise over the first twentieth of the steps and fall to a tenth along a cosine."
    )
