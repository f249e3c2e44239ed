"""Render the report of one experiment from its tables, and its findings in a few lines for a terminal."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.experiment.resolved import read_experiment
from footprint.files import write_atomically
from footprint.report.render import headline, render
from footprint.tables.checksums import made_from, write_checksums
from footprint.tables.consistency import require_unchanged


def main(arguments: Namespace) -> None:
    experiment = read_experiment(arguments.experiment)
    tables = arguments.experiment.parent
    require_unchanged(experiment, tables)
    render(
        tables,
        output=arguments.output,
        experiment=experiment.name,
        device=experiment.place,
        engine=experiment.engine,
        reference=arguments.reference,
        notebook=arguments.notebook,
    )
    write_atomically(arguments.headline, headline(tables) + "\n")
    write_checksums(arguments.checksums, [arguments.output, arguments.headline, *made_from(experiment, tables)])


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, type=Path, help="experiment.json, in the folder of the tables")
    parser.add_argument("--notebook", required=True, type=Path, help="source of the report")
    parser.add_argument("--reference", type=Path, help="folder of results from other devices to set beside")
    parser.add_argument("--output", required=True, type=Path, help="page to write")
    parser.add_argument("--headline", required=True, type=Path, help="text to write")
    parser.add_argument("--checksums", required=True, type=Path, help="list of their checksums to write beside them")
    command.run(parser, main)
