"""Fetch a corpus, check its sha256 and write its bytes as one flat file."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.text.corpus import CorpusSpec
from footprint.text.fetch import prepare


def main(arguments: Namespace) -> None:
    prepare(CorpusSpec(**json.loads(arguments.corpus)), arguments.output, seq=arguments.seq)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True, help="the `corpus` key of the configuration, as JSON")
    parser.add_argument("--seq", type=int, default=1, help="tokens of the longest sequence the text must fill")
    parser.add_argument("--output", required=True, type=Path, help="file to write")
    command.run(parser, main)
