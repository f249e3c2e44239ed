"""Pretrain the base that fine-tunings start from, or go on where an interrupted pretraining stopped."""

from argparse import ArgumentParser, Namespace

from footprint.command import script as command
from footprint.jobs import on_device


def main(arguments: Namespace) -> None:
    on_device.run_on_device("pretrain_base", vars(arguments))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    on_device.add_arguments(parser)
    parser.add_argument("--steps", required=True, type=int, help="steps of the whole pretraining")
    parser.add_argument("--learning-rate", required=True, type=float, help="the highest learning rate")
    parser.add_argument("--output", required=True, help="safetensors file to write")
    command.run(parser, main)
