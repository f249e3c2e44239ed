"""Predict every run of an experiment and write predictions.csv."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.experiment.resolved import read_experiment
from footprint.predict.prediction import predict_many, predictable
from footprint.spec.columns import PREDICTIONS
from footprint.tables.rows import table, write_table


def main(arguments: Namespace) -> None:
    experiment = read_experiment(arguments.experiment)
    rows = predict_many(predictable(experiment.runs), experiment.training)
    write_table(arguments.output, table(rows, PREDICTIONS))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, type=Path, help="experiment.json of the experiment")
    parser.add_argument("--output", required=True, type=Path, help="CSV to write")
    command.run(parser, main)
