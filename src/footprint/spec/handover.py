"""A run as the workflow hands it to a job: everything it must know as JSON, and the name of its files. Stdlib only."""

import json
from dataclasses import asdict
from pathlib import Path

from footprint.errors import FootprintError
from footprint.spec.model import ModelSpec
from footprint.spec.recipe import PublishedModel, Recipe
from footprint.spec.run import AXES, RunSpec
from footprint.spec.training import TrainingSpec


def run_name(spec: RunSpec) -> str:
    """The name of a run's files without suffix; Snakemake's Paramspace makes the same from the axes."""
    return "_".join(f"{axis}~{value}" for axis, value in spec.axes().items())


def run_json(spec: RunSpec, training: TrainingSpec) -> str:
    """Everything a job must know to carry out one run and nothing of other runs: a change reruns only what it must."""
    axes = {axis: value for axis, value in spec.axes().items() if axis != "model"}
    return json.dumps(
        {
            "model": asdict(spec.model),
            "axes": axes,
            "device": spec.device,
            "card": spec.card,
            "recipe": spec.recipe and asdict(spec.recipe),
            "training": asdict(training),
        },
        sort_keys=True,
    )


def asked(run: str, corpus: str | Path, **settings: object) -> dict[str, object]:
    """Everything the job of one run is told but where to write: the JSON `run`, its text by name, further settings.

    It stands in the run's file, so that one measured under other settings is told apart however it got there.
    """
    return json.loads(run) | {"corpus": Path(corpus).name} | settings


def labels(run: str) -> dict[str, str]:
    """The axes of a run as the columns of `snakemake --report`."""
    told = json.loads(run)
    return {"model": told["model"]["name"]} | {axis: str(value) for axis, value in told["axes"].items()}


def parse_run(text: str) -> tuple[RunSpec, TrainingSpec]:
    """What `run_json` wrote; FootprintError for anything else."""
    try:
        told = json.loads(text)
        kind = PublishedModel if "config" in told["model"] else ModelSpec
        axes = {axis: told["axes"][axis] for axis in AXES if axis != "model"}
        where = {"device": told["device"], "card": told.get("card")}
        recipe = Recipe(**told["recipe"]) if told.get("recipe") else None
        spec = RunSpec(model=kind(**told["model"]), recipe=recipe, **where, **axes)
        return spec, TrainingSpec(**told["training"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise FootprintError(f"run: not a run as `scripts/measure.py --help` describes it ({error})") from None
