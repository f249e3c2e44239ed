"""A job on the device its run names: with GPUs of its own where that is CUDA, in a fresh process either way."""

import os
from argparse import ArgumentParser
from contextlib import nullcontext

from footprint.jobs.lease import lease, require_devices
from footprint.jobs.pretended import enter
from footprint.jobs.runtime import VISIBLE
from footprint.jobs.worker import run_forked
from footprint.spec.cards import find
from footprint.spec.handover import parse_run
from footprint.spec.run import RunSpec
from footprint.text.corpus import VALIDATION_FRACTION


def add_arguments(parser: ArgumentParser) -> None:
    """The options every such job has."""
    parser.add_argument(
        "--run",
        required=True,
        help='JSON: {"model": {its sizes}, "axes": {every axis but model}, "device": "cpu", "training": {...}}',
    )
    parser.add_argument("--corpus", dest="corpus_file", required=True, help="file written by scripts/corpus.py")
    parser.add_argument(
        "--held-out", type=float, default=VALIDATION_FRACTION, help="fraction of the text kept for validation"
    )


def leased(spec: RunSpec) -> int:
    """Devices that a run holds while it is carried out. One rank after another is rehearsed, on one card."""
    return 0 if spec.device == "cpu" else spec.gpus if spec.card is None else 1


def run_on_device(job: str, arguments: dict[str, object]) -> None:
    """The function `job` of `footprint.jobs.tasks`; `arguments["run"]` is the JSON of the run."""
    spec, _ = parse_run(arguments["run"])
    if spec.card is not None:
        enter(find(spec.card))
    needed = leased(spec)
    with lease(require_devices(needed), needed) if needed else nullcontext() as held:
        if held is not None:
            os.environ[VISIBLE] = ",".join(held.devices)
        run_forked(job, arguments, device=spec.device, lease=held.descriptors if held else ())
