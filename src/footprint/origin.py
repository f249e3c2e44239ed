"""Where an experiment's rows come from: the config they ran with, what differs between them, how to rerun."""

import json
from pathlib import Path

import pandas as pd
import yaml

from footprint.spec import PRESETS
from footprint.words import escape, listing

EXPERIMENT = "experiment.json"
"""The resolved configuration, as the workflow leaves it beside the tables."""

_MUST_AGREE = {
    "device_name": "devices",
    "git_commit": "commits",
    "torch_version": "PyTorch versions",
    "bitsandbytes_version": "bitsandbytes versions",
    "peft_version": "PEFT versions",
    "threads": "numbers of threads",
}


def config(directory: Path) -> dict | None:
    """The resolved configuration of the experiment whose tables lie in `directory`, if it was kept."""
    path = directory / EXPERIMENT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def config_text(directory: Path) -> str | None:
    """The configuration as YAML."""
    found = config(directory)
    return None if found is None else yaml.safe_dump(found, sort_keys=False, default_flow_style=None, width=100)


def layers(directory: Path) -> dict[str, int]:
    """Blocks of every model whose shape is known: the presets and those of the configuration."""
    own = (config(directory) or {}).get("models", {})
    return {name: spec.layers for name, spec in PRESETS.items()} | {
        name: model["layers"] for name, model in own.items()
    }


def mixture(runs: pd.DataFrame) -> str:
    """Whether all rows come from one device, one commit and one set of versions; if not, what differs."""
    differing = {
        words: runs[column].dropna().astype(str).unique()
        for column, words in _MUST_AGREE.items()
        if runs[column].nunique() > 1
    }
    if not differing:
        return "All rows come from one device, one commit and one set of versions."
    parts = (f"{len(values)} {words} ({listing(map(escape, values))})" for words, values in differing.items())
    return (
        f"**The rows do not come from one place:** {'; '.join(parts)}. "
        f"Delete the older run files and run the workflow again where all {len(runs)} must be comparable."
    )


def rerun(experiment: str, device: str) -> str:
    """The commands that make this page again."""
    target = f"results/{experiment}/{device}"
    return (
        f"To measure again, delete <code>{escape(target)}</code> and run `make report` (the published ablation on this "
        "machine's CPU) or `snakemake --cores 2 --configfile <config>` with the configuration below."
    )
