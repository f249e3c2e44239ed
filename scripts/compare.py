"""Join measurements.csv and predictions.csv into comparison.csv."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint import command
from footprint.comparison import compare
from footprint.records import read_table, write_table


def main(arguments: Namespace) -> None:
    write_table(arguments.output, compare(read_table(arguments.measurements), read_table(arguments.predictions)))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--measurements", required=True, type=Path, help="CSV written by scripts/gather.py")
    parser.add_argument("--predictions", required=True, type=Path, help="CSV written by scripts/predict.py")
    parser.add_argument("--output", required=True, type=Path, help="CSV to write")
    command.run(parser, main)
