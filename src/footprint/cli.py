"""The command `footprint`: predict one run, search what fits on a card, measure one run here.

Only `footprint measure` imports PyTorch; the others answer within a second.
"""

import json
import os
import sys
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from footprint.checkpointing import CHECKPOINTING
from footprint.command import user_errors
from footprint.errors import FootprintError
from footprint.precision import PRECISIONS
from footprint.spec import (
    AXIS_DEFAULTS,
    DEVICES,
    OPTIMIZERS,
    PRESETS,
    QUANTIZATIONS,
    REGIMES,
    TARGETS,
    ModelSpec,
    RunSpec,
    TrainingSpec,
)
from footprint.units import parse_bytes

DOES_NOT_FIT = 1
"""Exit status of a prediction or search whose answer is no, and of a measurement that ran out of memory."""

AXES = {
    "regime": ("what trains", REGIMES),
    "rank": ("rank of the adapters", "1 to the narrowest adapted Linear"),
    "targets": ("Linears that carry an adapter", TARGETS),
    "checkpointing": ("what backward recomputes", CHECKPOINTING),
    "precision": ("dtypes of weights, gradients and Adam", tuple(PRECISIONS)),
    "optimizer": ("the optimizer", OPTIMIZERS),
    "quantization": ("4-bit format of a qlora base", QUANTIZATIONS),
    "batch": ("sequences per step", "1 or more"),
    "seq": ("tokens per sequence", "1 to the model's context"),
}
"""Options that are axes of a run: (what they say, what is allowed)."""

CUSTOM = "custom"
"""Name of a model given as --model-json."""

ABSENT = {
    "experiment": "prediction",
    "grids": [{"model": "minigpt-3m", "regime": "full"}],
    "corpus": {"kind": "path", "path": "unread", "sha256": "0" * 64},
}
"""What a config file may leave out when only its models, its device and its training settings are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What a config file says that concerns a prediction."""

    models: Mapping[str, ModelSpec] = field(default_factory=lambda: PRESETS)
    device: str | None = None
    training: TrainingSpec = TrainingSpec()


class Parser(ArgumentParser):
    """Says what is wrong with an argument in the one sentence that every other error is."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter)

    def error(self, message: str) -> None:
        """Called by argparse."""
        raise FootprintError(f"{message}; see {self.prog} --help")


class ShowVersion(Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"footprint {version('footprint')}")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    try:
        with user_errors():
            parsed = _parser().parse_args(arguments)
            status = parsed.action(parsed)
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # `footprint ... | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
