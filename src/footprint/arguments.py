"""The options of the command `footprint`, and what their help says."""

from argparse import Action, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from footprint.checkpointing import CHECKPOINTING
from footprint.errors import FootprintError
from footprint.precision import PRECISIONS
from footprint.spec import AXIS_DEFAULTS, DEVICES, OPTIMIZERS, PRESETS, QUANTIZATIONS, REGIMES, TARGETS

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


class Parser(ArgumentParser):
    """Says what is wrong with an argument in the one sentence that every other error is."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter)

    def error(self, message: str) -> None:
        """Called by argparse."""
        raise FootprintError(f"{' '.join(message.split())}; see {self.prog} --help")


class ShowVersion(Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"footprint {version('footprint')}")
        parser.exit()


def parser(*, predict: Callable, fit: Callable, measure: Callable, verify: Callable) -> Parser:
    """The whole command line; each command's `action` is the function given for it."""
    whole = Parser(
        prog="footprint",
        description="How much memory fine-tuning takes: predicted to the byte, searched for a card, measured here.",
    )
    whole.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_predict(commands).set_defaults(action=predict)
    _add_fit(commands).set_defaults(action=fit)
    _add_measure(commands).set_defaults(action=measure, gpu_memory=None)
    _add_verify(commands).set_defaults(action=verify)
    return whole


def _add_predict(commands) -> Parser:
    command = commands.add_parser(
        "predict",
        help="the peak of one run and what it is made of",
        description="Predict the peak memory of one training run: every phase, every bucket, and whether it fits.",
        epilog="example:\n  footprint predict --model llama-7b --regime qlora --seq 2048 --gpu-memory 24GiB\n\n"
        "exit status: 0 it fits (or no card was given), 1 it does not, 2 the input is wrong",
    )
    _add_model(command)
    _add_axes(command, required=("regime",))
    _add_gpu_memory(command, required=False)
    _add_device(command, "cuda with --gpu-memory, else the config's, else cpu")
    _add_json(command)
    return command


def _add_fit(commands) -> Parser:
    command = commands.add_parser(
        "fit",
        help="what fits on a card, the least given up first",
        description="Search regimes and checkpointing (or what you list) for the settings of a model that fit.\n"
        "Each setting is shown with the longest sequence that fits, in the largest batch, and with the\n"
        "most tokens per step that fit. An axis may be given several values: --precision mixed,bf16.",
        epilog="example:\n  footprint fit --model llama-7b --gpu-memory 24GiB --regime lora,qlora --seq 2048\n\n"
        "exit status: 0 something fits, 1 nothing does, 2 the input is wrong",
    )
    _add_model(command)
    searched = {"regime": "all", "checkpointing": "all", "seq": "powers of two up to the model's context"}
    _add_axes(command, several=True, without=("batch",), defaults=searched)
    _add_gpu_memory(command, required=True)
    _add_device(command, "cuda")
    _add_json(command)
    return command


def _add_measure(commands) -> Parser:
    command = commands.add_parser(
        "measure",
        help="train a few steps here and compare with the prediction",
        description="Train a few steps on random tokens in this process; set what is measured beside the prediction.\n"
        "What this machine has too little memory for is refused, by the prediction, before it takes any.",
        epilog="example:\n  footprint measure --model minigpt-3m --regime lora\n\n"
        "exit status: 0 measured, 1 out of memory or diverged, 2 the input is wrong",
    )
    _add_model(command)
    _add_axes(command, required=("regime",))
    _add_device(command, "the config's, else cpu")
    command.add_argument("--force", action="store_true", help="measure even where memory is predicted to run out")
    _add_json(command)
    return command


def _add_verify(commands) -> Parser:
    command = commands.add_parser(
        "verify",
        help="measure some runs of a finished experiment again, byte by byte",
        description="Measure randomly chosen runs of a finished experiment again, each in a fresh process, and\n"
        "compare every column of bytes with what the experiment's files say; they stay as they are.",
        epilog="example:\n  footprint verify --experiment smoke\n\n"
        "exit status: 0 every byte is the same, 1 one differs or a file is missing or edited, 2 the input is wrong",
    )
    command.add_argument("--experiment", metavar="NAME", default="ablation", help="its name (default: ablation)")
    command.add_argument("--device", metavar="DEVICE", default="cpu", help=f"{' or '.join(DEVICES)} (default: cpu)")
    command.add_argument("--rows", metavar="NUMBER", type=_value, default=3, help="runs to measure (default: 3)")
    command.add_argument("--seed", metavar="NUMBER", type=_value, help="chooses the runs (default: any, it is printed)")
    return command


def _add_model(command: ArgumentParser) -> None:
    group = command.add_argument_group("model")
    which = group.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="NAME", help=f"{', '.join(PRESETS)}, or one of --config")
    which.add_argument("--model-json", metavar="JSON", help='sizes as in a config: \'{"layers": 2, "width": 64, ...}\'')
    which.add_argument("--hf-config", metavar="FILE", type=Path, help="a config.json from the Hugging Face Hub")
    group.add_argument("--config", metavar="FILE", type=Path, help="a config file; its models and training are used")


def _add_axes(
    command: ArgumentParser,
    *,
    required: Sequence[str] = (),
    several: bool = False,
    without: Sequence[str] = (),
    defaults: Mapping[str, str] | None = None,
) -> None:
    group = command.add_argument_group("axes")
    shown = AXIS_DEFAULTS | (defaults or {})
    for axis, (says, allowed) in AXES.items():
        if axis in without:
            continue
        default = "required" if axis in required else f"default: {shown[axis]}"
        allowed = allowed if isinstance(allowed, str) else ", ".join(allowed)
        group.add_argument(
            f"--{axis}",
            metavar="VALUE",
            type=_values if several else _value,
            required=axis in required,
            help=f"{says}: {allowed} ({default})",
        )


def _add_gpu_memory(command: ArgumentParser, *, required: bool) -> None:
    note = "required" if required else "default: no card"
    command.add_argument(
        "--gpu-memory", metavar="SIZE", required=required, help=f"memory of the card, as 24GiB ({note})"
    )


def _add_device(command: ArgumentParser, default: str) -> None:
    command.add_argument("--device", metavar="DEVICE", type=_named, help=f"{' or '.join(DEVICES)} (default: {default})")


def _add_json(command: ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object instead of text, sizes in bytes")


def _named(text: str) -> str:
    """A name that was given; an unset variable of a shell gives none."""
    if not text:
        raise ArgumentTypeError("'' is not allowed; use a name")
    return text


def _value(text: str) -> int | str:
    """A number where it is one; what is allowed, the spec says."""
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else text


def _values(text: str) -> tuple[int | str, ...]:
    return tuple(dict.fromkeys(_value(part.strip()) for part in text.split(",")))
