"""Gather the fine-tunings of an experiment into quality.csv, curves.csv and bases.csv."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.experiment.resolved import corpus_name, read_experiment
from footprint.tables.gather import remarks
from footprint.tables.quality import gather_bases, gather_curves, gather_quality
from footprint.tables.rows import write_table


def main(arguments: Namespace) -> None:
    experiment = read_experiment(arguments.experiment)
    study, training = experiment.study, experiment.training
    rows = gather_quality(study, training, corpus_name(experiment.corpus), arguments.finetunings)
    write_table(arguments.output, rows)
    for remark in remarks(rows):
        print(f"gather: {remark}", file=sys.stderr)
    write_table(arguments.curves, gather_curves(study, arguments.finetunings))
    write_table(arguments.bases, gather_bases(study, training, arguments.stored))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, type=Path, help="experiment.json of the experiment")
    parser.add_argument("--finetunings", required=True, type=Path, help="folder of what scripts/finetune.py wrote")
    parser.add_argument("--stored", required=True, type=Path, help="folder of what scripts/store.py wrote")
    parser.add_argument("--output", required=True, type=Path, help="CSV to write: a row per fine-tuning")
    parser.add_argument("--curves", required=True, type=Path, help="CSV to write: every loss")
    parser.add_argument("--bases", required=True, type=Path, help="CSV to write: the bases as they are stored")
    command.run(parser, main)
