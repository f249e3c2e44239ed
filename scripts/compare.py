"""Join measurements.csv, predictions.csv and (if there is one) simulations.csv into comparison.csv."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.tables.compare import compare
from footprint.tables.rows import read_table, write_table


def main(arguments: Namespace) -> None:
    simulations = read_table(arguments.simulations) if arguments.simulations else None
    compared = compare(read_table(arguments.measurements), read_table(arguments.predictions), simulations)
    write_table(arguments.output, compared)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--measurements", required=True, type=Path, help="CSV written by scripts/gather.py")
    parser.add_argument("--predictions", required=True, type=Path, help="CSV written by scripts/predict.py")
    parser.add_argument("--simulations", type=Path, help="CSV written by scripts/simulate.py, if it was asked")
    parser.add_argument("--output", required=True, type=Path, help="CSV to write")
    command.run(parser, main)
