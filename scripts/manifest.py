"""Write down what an experiment's tables were made of: settings, inputs and tables by hash, versions, commit."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.files import write_atomically
from footprint.tables.manifest import manifest


def main(arguments: Namespace) -> None:
    found = manifest(arguments.experiment, arguments.texts, arguments.tables)
    write_atomically(arguments.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, type=Path, help="experiment.json of the experiment")
    parser.add_argument("--texts", required=True, nargs="+", type=Path, help="files written by scripts/corpus.py")
    parser.add_argument("--tables", required=True, nargs="+", type=Path, help="CSVs, measurements.csv among them")
    parser.add_argument("--output", required=True, type=Path, help="JSON file to write")
    command.run(parser, main)
