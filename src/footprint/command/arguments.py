"""The options of the command `footprint`, and what their help says."""

from argparse import REMAINDER, Action, ArgumentParser, ArgumentTypeError, HelpFormatter, Namespace, _SubParsersAction
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from footprint.command.script import require_installed
from footprint.errors import FootprintError
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.model import TARGETS, sets_of_linears
from footprint.spec.precision import PRECISIONS
from footprint.spec.presets import PRESETS
from footprint.spec.recipe import ATTENTION, BATCHES, HALVES, STACKS
from footprint.spec.run import AXIS_DEFAULTS, DEVICES, OPTIMIZERS, QUANTIZATIONS, REGIMES, SHARDINGS

AXES = {
    "regime": ("what trains", REGIMES),
    "rank": ("rank of the adapters", "1 to the narrowest adapted Linear"),
    "targets": ("Linears that carry an adapter", f"{', '.join(TARGETS)}, or Linears joined by +, as gate_proj+up_proj"),
    "checkpointing": ("what backward recomputes", CHECKPOINTING),
    "precision": ("dtypes of weights, gradients and Adam", tuple(PRECISIONS)),
    "optimizer": ("the optimizer", OPTIMIZERS),
    "quantization": ("4-bit format of a qlora base", QUANTIZATIONS),
    "batch": ("sequences per step", "1 or more"),
    "seq": ("tokens per sequence", "1 or more; with learned positions up to the model's context"),
    "gpus": ("processes that share a batch, each with its GPU", "a divisor of batch"),
    "sharding": ("what each of several GPUs holds", SHARDINGS),
}
"""Options that are axes of a run: (what they say, what is allowed)."""


RECIPE = {
    "half": ("half-precision type", "bf16 or fp16 (default: bf16)"),
    "autocast": ("whether Trainer is told bf16 or fp16", "true or false (default: with precision amp)"),
    "dropout": ("LoRA's dropout", "0 to below 1 (default: 0.05)"),
    "prepared": ("prepare_model_for_kbit_training for qlora", "true or false (default: true)"),
    "attention": ("attn_implementation", "auto, sdpa or eager (default: auto, as Transformers chooses)"),
    "accumulation": ("batches per step", "1 or more (default: 1)"),
    "clipping": ("largest norm of all gradients", "0 for none (default: 1)"),
    "batches": ("full sequences, or shorter ones with a mask", "packed or padded (default: packed)"),
    "weights": ("a checkpoint to load", "its folder (default: none, weights are drawn)"),
}
"""Options that are fields of a `Recipe`."""


class Paragraphs(HelpFormatter):
    """Wraps every line of a description by itself, so that an example stays on its own line."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            super(Paragraphs, self)._fill_text(line, width, indent) if not line.startswith(" ") else line
            for line in text.split("\n")
        )


class Parser(ArgumentParser):
    """Says what is wrong with an argument in the one sentence that every other error is."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=Paragraphs)

    def parse_args(self, arguments: Sequence[str] | None = None, namespace: Namespace | None = None) -> Namespace:
        """As argparse does, but what a command does not know is answered with the help of that command."""
        parsed, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            raise _mistake(f"unrecognized arguments: {' '.join(unknown)}", f"{self.prog} {parsed.command}")
        return parsed

    def error(self, message: str) -> None:
        """Called by argparse."""
        raise _mistake(message, self.prog)


def _mistake(message: str, program: str) -> FootprintError:
    return FootprintError(f"{' '.join(message.split())}; see {program} --help")


class ShowVersion(Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"footprint {version('footprint')}")
        parser.exit()


class ShowCompletion(Action):
    """Prints what a shell needs to complete this command line."""

    def __call__(self, parser: ArgumentParser, options: Namespace, shell: str, *_: object) -> None:
        require_installed("completion", "shtab")
        import shtab

        for command in _commands(parser):
            for action in command._actions:
                action.choices = action.choices or CHOICES.get(action.dest)
                if action.type is Path:
                    action.complete = shtab.FILE
        print(shtab.complete(parser, shell))
        parser.exit()


CHOICES = {axis: allowed for axis, (_, allowed) in AXES.items() if not isinstance(allowed, str)}
CHOICES |= {"model": tuple(PRESETS), "targets": TARGETS, "device": DEVICES, "stack": STACKS}
CHOICES |= {"attention": ATTENTION, "batches": BATCHES, "half": HALVES}
"""What a shell proposes for an option; what is allowed, the specs say."""


def _commands(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """The parser of each command."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            yield from action.choices.values()


def parser(
    *, predict: Callable, fit: Callable, measure: Callable, rehearse: Callable, cards: Callable, verify: Callable
) -> Parser:
    """The whole command line; each command's `action` is the function given for it."""
    whole = Parser(
        prog="footprint",
        description="How much memory fine-tuning takes: predicted to the byte, searched for a card, measured here.",
    )
    whole.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    whole.add_argument(
        "--print-completion",
        action=ShowCompletion,
        metavar="SHELL",
        choices=("bash", "zsh", "tcsh", "fish"),
        help="print a completion script for bash, zsh, tcsh or fish and exit",
    )
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    _add_predict(commands).set_defaults(action=predict)
    _add_fit(commands).set_defaults(action=fit)
    _add_measure(commands).set_defaults(action=measure, card=None, gpu_memory=None)
    _add_rehearse(commands).set_defaults(action=rehearse, device=None)
    _add_cards(commands).set_defaults(action=cards)
    _add_verify(commands).set_defaults(action=verify)
    return whole


def _add_predict(commands) -> Parser:
    command = commands.add_parser(
        "predict",
        help="the peak of one run and what it is made of",
        description="Predict the peak memory of one training run: every phase, every bucket, and whether it fits.",
        epilog="example:\n  footprint predict --model llama-7b --regime qlora --seq 2048 --card a10g\n\n"
        "exit status: 0 it fits (or no card was given), 1 it does not, 2 the input is wrong",
    )
    _add_model(command)
    _add_axes(command, required=("regime",))
    _add_card(command, "none")
    _add_device(command, "cuda with --card or --gpu-memory, else the config's, else cpu")
    command.add_argument(
        "--timeline", metavar="FILE", type=Path, help="write the live bytes of each bucket through one step, as CSV"
    )
    _add_json(command)
    return command


def _add_fit(commands) -> Parser:
    command = commands.add_parser(
        "fit",
        help="what fits on a card, the smallest sacrifice first",
        description="Search regimes and checkpointing (or what you list) for the settings of a model that fit. "
        "For each setting: the longest sequence that fits, with its largest batch, and the shape with the most "
        "tokens per step. An axis may be given several values: --precision mixed,bf16.",
        epilog="examples:\n  footprint fit --model llama-7b --card a10g --regime lora,qlora --seq 2048\n"
        "  footprint fit --rehearse --hf-config Qwen3-8B/config.json --card rtx-4090\n\n"
        "exit status: 0 something fits, 1 nothing fits, 2 the input is wrong",
    )
    _add_model(command)
    searched = {
        "regime": "all",
        "checkpointing": "all",
        "batch": "the largest that fits",
        "seq": "powers of two up to the model's context",
    }
    _add_axes(command, several=True, defaults=searched)
    command.add_argument(
        "--rehearse",
        action="store_true",
        help="search by rehearsals of Transformers' Trainer instead of predictions; needs --card and a model",
    )
    _add_recipe(command)
    _add_card(command, "required, or --gpu-memory")
    _add_device(command, "cuda")
    _add_json(command)
    return command


def _add_measure(commands) -> Parser:
    command = commands.add_parser(
        "measure",
        help="train a few steps here and compare with the prediction",
        description="Train a few steps on random tokens in this process; set what is measured beside the prediction.\n"
        "A run predicted to exceed this machine's memory is refused before it starts.",
        epilog="example:\n  footprint measure --model minigpt-3m --regime lora\n\n"
        "exit status: 0 measured, 1 out of memory or diverged, 2 the input is wrong",
    )
    _add_model(command)
    _add_axes(command, required=("regime",))
    _add_device(command, "the config's, else cpu")
    command.add_argument("--force", action="store_true", help="measure even where memory is predicted to run out")
    _add_json(command)
    return command


def _add_rehearse(commands) -> Parser:
    command = commands.add_parser(
        "rehearse",
        help="run any PyTorch program as if on a card that is not here",
        usage="footprint rehearse --card CARD [--gpu-memory SIZE] [--gpus NUMBER [--rank RANK]] [--steps NUMBER] "
        "[--timeline FILE] [--snapshot FILE] [--json] -- COMMAND ...\n"
        "       footprint rehearse --card CARD [--gpu-memory SIZE] [--json] --hf-config FILE --regime VALUE ...",
        description="Run a program unchanged as if on that card: PyTorch's CUDA build allocates, kernels do nothing. "
        "Shown are the peak by phase and bucket, the largest tensors with the lines that made them, and the verdict. "
        "Losses and times of a rehearsal mean nothing. It needs a CUDA build of PyTorch and a C compiler, no GPU.\n"
        "With --gpus the program is one rank of several, started by torchrun, accelerate launch or as it is: rank 0, "
        "or what --rank names (another one, several as 0,7, or all). Collectives do nothing but what they allocate.\n"
        "With a model in place of a program: --hf-config trains it as people do, by Transformers' Trainer with PEFT "
        "and bitsandbytes; --model by this project's own loop, beside its prediction. --stack chooses between the two.",
        epilog="examples:\n  footprint rehearse --card t4 -- python train.py --batch-size 8\n"
        "  footprint rehearse --card a100-80gb --gpus 8 -- torchrun --nproc-per-node 8 train.py\n"
        "  footprint rehearse --card a10g --hf-config Qwen3-8B/config.json --regime qlora --batch 1 --seq 2048\n"
        "  footprint rehearse --card t4 --model minigpt-85m --regime lora\n\n"
        "exit status: 0 it ran, 1 it ran out of memory there, 2 the input is wrong or it cannot be rehearsed, "
        "otherwise the program's own",
    )
    command.add_argument("--card", metavar="CARD", required=True, help="one of those `footprint cards` lists")
    command.add_argument("--gpu-memory", metavar="SIZE", help="memory of the card, if another than the catalogue's")
    command.add_argument("--steps", metavar="NUMBER", type=_value, help="optimizer steps to make, or all (default: 3)")
    command.add_argument(
        "--timeline",
        metavar="FILE",
        type=Path,
        help="write the live bytes of each bucket after every allocation and release, as CSV",
    )
    command.add_argument("--snapshot", metavar="FILE", type=Path, help="write what PyTorch's memory viewer opens")
    _add_json(command)
    _add_model(command, required=False)
    under_transformers = {
        "regime": "none; a model needs one",
        "precision": "mixed; amp under Transformers, which has no mixed",
        "optimizer": "adamw; adamw-fused under Transformers",
        "checkpointing": "none; Transformers has no sqrt",
    }
    _add_axes(command, defaults=under_transformers)
    _add_recipe(command)
    command.add_argument("program", nargs=REMAINDER, metavar="COMMAND", help="the program and its arguments, after --")
    return command


def _add_cards(commands) -> Parser:
    command = commands.add_parser(
        "cards",
        help="the cards that a program can be rehearsed on",
        description="List the catalogue: the name to give, the driver's name, and the memory that the driver reports.",
    )
    _add_json(command)
    return command


def _add_verify(commands) -> Parser:
    command = commands.add_parser(
        "verify",
        help="measure some runs of a finished experiment again and compare every byte",
        description="Measure randomly chosen runs of a finished experiment again, each in a fresh process, and "
        "compare every column of bytes with the stored results, which are not changed.",
        epilog="example:\n  footprint verify --experiment smoke\n\n"
        "exit status: 0 every byte is the same, 1 one differs or a file is missing or edited, 2 the input is wrong",
    )
    command.add_argument("--experiment", metavar="NAME", default="ablation", help="its name (default: ablation)")
    devices = f"{', '.join(DEVICES)} or <card>-rehearsed (default: cpu)"
    command.add_argument("--device", metavar="DEVICE", default="cpu", help=devices)
    command.add_argument("--rows", metavar="NUMBER", type=_value, default=3, help="runs to measure (default: 3)")
    command.add_argument("--seed", metavar="NUMBER", type=_value, help="chooses the runs (default: any, it is printed)")
    return command


def _add_model(command: ArgumentParser, *, required: bool = True) -> None:
    group = command.add_argument_group("model")
    which = group.add_mutually_exclusive_group(required=required)
    which.add_argument("--model", metavar="NAME", help=f"{', '.join(PRESETS)}, or a model from --config")
    which.add_argument("--model-json", metavar="JSON", help='sizes as in a config: \'{"layers": 2, "width": 64, ...}\'')
    which.add_argument("--hf-config", metavar="FILE", type=Path, help="a published config.json, or the folder it is in")
    group.add_argument("--config", metavar="FILE", type=Path, help="a config file; its models and training are used")


def _add_axes(
    command: ArgumentParser,
    *,
    required: Sequence[str] = (),
    several: bool = False,
    defaults: Mapping[str, str] | None = None,
) -> None:
    group = command.add_argument_group("axes")
    shown = AXIS_DEFAULTS | {"sharding": "fsdp with several GPUs"} | (defaults or {})
    for axis, (says, allowed) in AXES.items():
        default = "required" if axis in required else f"default: {shown[axis]}"
        allowed = allowed if isinstance(allowed, str) else ", ".join(allowed)
        group.add_argument(
            f"--{axis}",
            metavar="VALUE",
            type=partial(_values, axis) if several else _value,
            required=axis in required,
            help=f"{says}: {allowed} ({default})",
        )


def _add_recipe(command: ArgumentParser) -> None:
    group = command.add_argument_group("recipe of Transformers' Trainer")
    group.add_argument(
        "--stack",
        metavar="NAME",
        help=f"whose code trains: {' or '.join(STACKS)} (default: transformers with --hf-config, else minigpt)",
    )
    for name, (says, allowed) in RECIPE.items():
        group.add_argument(f"--{name}", metavar="VALUE", type=setting, help=f"{says}: {allowed}")


def _add_card(command: ArgumentParser, default: str) -> None:
    command.add_argument(
        "--card", metavar="CARD", type=_named, help=f"one of those `footprint cards` lists (default: {default})"
    )
    command.add_argument(
        "--gpu-memory",
        metavar="SIZE",
        help="memory of the card, as 24GiB, 24GB or 24; without --card of one of the newest generation",
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
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(text) < 20 else text


def setting(text: str) -> float | bool | str:
    """A number or a truth value where it is one."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return _value(text) if text.isdecimal() else float(text)
    except ValueError:
        return text


def _values(axis: str, text: str) -> tuple[int | str | tuple[str, ...], ...]:
    """Several values of an axis, each once; Linears alone are one set of them."""
    values = list(dict.fromkeys(_value(part.strip()) for part in text.split(",")))
    sets = sets_of_linears(values) if axis == "targets" else values
    return tuple(tuple(value) if isinstance(value, list) else value for value in sets)
