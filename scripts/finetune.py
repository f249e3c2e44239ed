"""Fine-tune a base in a fresh process; write its row as JSON and its losses as CSV."""

from argparse import ArgumentParser, Namespace

from footprint.command import script as command
from footprint.jobs import on_device


def main(arguments: Namespace) -> None:
    on_device.run_on_device("finetune_run", vars(arguments))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    on_device.add_arguments(parser)
    parser.add_argument("--base", required=True, help="file written by scripts/pretrain.py")
    parser.add_argument("--steps", required=True, type=int, help="steps of the fine-tuning")
    parser.add_argument("--learning-rate", required=True, type=float, help="the highest learning rate")
    parser.add_argument("--validate-every", required=True, type=int, help="steps from one validation to the next")
    parser.add_argument("--validation-sequences", required=True, type=int, help="held-out sequences a validation reads")
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--curve", required=True, help="CSV to write: every loss")
    command.run(parser, main)
