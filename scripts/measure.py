"""Measure one run in a fresh process; write its row as JSON and its timeline as CSV."""

from argparse import ArgumentParser, Namespace

from footprint.command import script as command
from footprint.jobs import on_device


def main(arguments: Namespace) -> None:
    on_device.run_on_device("measure_run", vars(arguments))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    on_device.add_arguments(parser)
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--timeline", required=True, help="CSV to write: live bytes through one step")
    command.run(parser, main)
