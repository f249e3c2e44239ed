"""A job on the device its run names: with a GPU of its own where that is CUDA, in a fresh process either way."""

import os
from argparse import ArgumentParser
from contextlib import nullcontext

from footprint.jobs.lease import lease, require_devices
from footprint.jobs.pretended import enter
from footprint.jobs.runtime import VISIBLE
from footprint.jobs.worker import run_forked
from footprint.spec.cards import find
from footprint.spec.handover import parse_run
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


def run_on_device(job: str, arguments: dict[str, object]) -> None:
    """The function `job` of `footprint.jobs.tasks`; `arguments["run"]` is the JSON of the run."""
    spec, _ = parse_run(arguments["run"])
    if spec.card is not None:
        enter(find(spec.card))
    with lease(require_devices()) if spec.device == "cuda" else nullcontext() as gpu:
        if gpu is not None:
            os.environ[VISIBLE] = gpu.device
        run_forked(job, arguments, device=spec.device, lease=gpu and gpu.descriptor)
