"""Gather the rows of an experiment's runs into measurements.csv."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint import command
from footprint.experiment import read_experiment
from footprint.plan import run_name
from footprint.records import MEASUREMENTS, read_row, table, write_table


def main(arguments: Namespace) -> None:
    runs = read_experiment(arguments.experiment).runs
    rows = [read_row(arguments.runs / f"{run_name(spec)}.json", MEASUREMENTS) for spec in runs]
    write_table(arguments.output, table(rows, MEASUREMENTS))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, type=Path, help="experiment.json of the experiment")
    parser.add_argument("--runs", required=True, type=Path, help="folder of the runs' JSON files")
    parser.add_argument("--output", required=True, type=Path, help="CSV to write")
    command.run(parser, main)
