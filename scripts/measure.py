"""Measure one run in a fresh process; write its row as JSON and its timeline as CSV."""

import os
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext

from footprint import command
from footprint.lease import VISIBLE, lease, require_devices
from footprint.plan import parse_run
from footprint.worker import measure_forked


def main(arguments: Namespace) -> None:
    spec, _ = parse_run(arguments.run)
    with lease(require_devices()) if spec.device == "cuda" else nullcontext() as gpu:
        if gpu is not None:
            os.environ[VISIBLE] = gpu.device
        measure_forked(vars(arguments), device=spec.device, lease=gpu and gpu.descriptor)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--run",
        required=True,
        help='JSON: {"model": {its sizes}, "axes": {every axis but model}, "device": "cpu", "training": {...}}',
    )
    parser.add_argument("--corpus", dest="corpus_file", required=True, help="file written by scripts/corpus.py")
    parser.add_argument("--held-out", type=float, default=0.1, help="fraction of the text kept for validation")
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--timeline", required=True, help="CSV to write: live bytes through one step")
    command.run(parser, main)
