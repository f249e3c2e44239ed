"""Gather the rows of an experiment's runs into measurements.csv; what limits their comparison is said on stderr."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.experiment.resolved import read_experiment
from footprint.tables.gather import measurements, remarks
from footprint.tables.rows import write_table


def main(arguments: Namespace) -> None:
    rows = measurements(read_experiment(arguments.experiment), arguments.runs)
    write_table(arguments.output, rows)
    for remark in remarks(rows):
        print(f"gather: {remark}", file=sys.stderr)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, type=Path, help="experiment.json of the experiment")
    parser.add_argument("--runs", required=True, type=Path, help="folder of the runs' JSON files")
    parser.add_argument("--output", required=True, type=Path, help="CSV to write")
    command.run(parser, main)
