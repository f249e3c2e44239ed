"""Store a base in every form there is, validate each and write what it costs as CSV."""

from argparse import ArgumentParser, Namespace

from footprint.command import script as command
from footprint.jobs import on_device


def main(arguments: Namespace) -> None:
    on_device.run_on_device("store_base", vars(arguments))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    on_device.add_arguments(parser)
    parser.add_argument("--base", required=True, help="file written by scripts/pretrain.py")
    parser.add_argument("--pretraining-corpus", required=True, help="the text the base was pretrained on")
    parser.add_argument("--pretraining-held-out", required=True, type=float, help="fraction of it kept for validation")
    parser.add_argument("--validation-sequences", required=True, type=int, help="held-out sequences a validation reads")
    parser.add_argument("--output", required=True, help="CSV to write")
    command.run(parser, main)
