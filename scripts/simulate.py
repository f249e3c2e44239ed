"""Ask the third opinion about every run of an experiment and write simulations.csv."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.experiment.resolved import read_experiment
from footprint.jobs.host_memory import require_host_memory
from footprint.jobs.runtime import prepare_environment
from footprint.predict.prediction import predictable
from footprint.tables.rows import table, write_table


def main(arguments: Namespace) -> None:
    prepare_environment("cpu")
    from footprint.jobs.fresh import each_fresh
    from footprint.measure.third_opinion import simulate
    from footprint.spec.columns import SIMULATIONS

    experiment = read_experiment(arguments.experiment)
    runs = [run for run in predictable(experiment.runs) if run.gpus == 1]  # it follows one process
    # Full fine-tuning is simulated on tensors that take no memory.
    require_host_memory((spec, experiment.training) for spec in runs if spec.regime != "full")
    simulated = each_fresh(simulate, runs, experiment.training, workers=arguments.workers)
    rows = [spec.axes() | peaks for spec, peaks in zip(runs, simulated, strict=True)]
    write_table(arguments.output, table(rows, SIMULATIONS))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, type=Path, help="experiment.json of the experiment")
    parser.add_argument("--workers", default=1, type=int, help="runs at a time")
    parser.add_argument("--output", required=True, type=Path, help="CSV to write")
    command.run(parser, main)
