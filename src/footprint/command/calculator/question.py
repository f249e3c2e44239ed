"""The state of the page as a command line, and what that asks for."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from shlex import join

from footprint.command import asked
from footprint.command.arguments import AXES, Parser, parser, setting
from footprint.predict.capacity import Capacity
from footprint.spec.block import CHOICES
from footprint.spec.model import ModelSpec
from footprint.spec.published import read_shape
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

State = Mapping[str, str]
"""What stands in every field of the page, by the name of its option; with the `model` custom, its sizes too."""

SIZES = tuple(field.name for field in fields(ModelSpec) if field.name != "name")
"""Fields of a custom model."""

REQUIRED = tuple(field.name for field in fields(ModelSpec) if field.name in SIZES and field.default is MISSING)
"""Those that no model is without."""

ADAPTERS = ("rank", "targets", "quantization")
"""Axes that full fine-tuning does not have."""


SHARING = ("gpus", "sharding")
"""Axes that one GPU does not have."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a state asks for."""

    words: tuple[str, ...]
    """Of the command line, without the name of the program."""
    spec: RunSpec
    training: TrainingSpec
    capacity: Capacity | None

    @property
    def command(self) -> str:
        """What a shell is given to get the same answer."""
        return join(("footprint", *self.words))


def question(state: State) -> Question:
    """What a state asks for; FootprintError in the command line's own words where it asks for what does not exist."""
    words = tuple(_words(state))
    parsed = parser_of_predict().parse_args(words)
    spec, training = asked.run(parsed)
    return Question(words, spec, training, asked.capacity(parsed, spec.device))


def sizes_in(path: Path) -> dict[str, str]:
    """The state of a model whose config.json is at `path`; FootprintError for a file that is none."""
    return sizes_of(read_shape(path))


def sizes_of(model: ModelSpec) -> dict[str, str]:
    """The state of a model."""
    own = ["head_width"] if model.heads * model.head_width != model.width else []
    told = {name: getattr(model, name) for name in (*REQUIRED, "block", *own)}
    plain = ModelSpec(name=asked.CUSTOM, **told)
    told |= {name: getattr(model, name) for name in SIZES if getattr(model, name) != getattr(plain, name)}
    return {"model": asked.CUSTOM} | {name: json.dumps(size).strip('"') for name, size in told.items()}


def _words(state: State) -> Iterator[str]:
    yield "predict"
    model = state.get("model", "")
    if model == asked.CUSTOM:
        yield from ("--model-json", json.dumps(_sizes(state)))
    else:
        yield from _option("model", model)
    left_out = ADAPTERS if state.get("regime") == "full" else ()
    left_out += SHARING if state.get("gpus", "").strip() in ("", "1") else ()
    for name in (*AXES, "card", "gpu-memory"):
        value = state.get(name, "").strip()
        if value and name not in left_out:
            yield from _option(name, value)


def _option(name: str, value: str) -> tuple[str, ...]:
    return (f"--{name}={value}",) if value.startswith("-") else (f"--{name}", value)


def _sizes(state: State) -> dict[str, object]:
    """The sizes of a custom model: numbers where they are, what is wrong as it was written, without what is empty."""
    told = {name: state.get(name, "").strip() for name in SIZES}
    given = {name: text for name, text in told.items() if text or name in REQUIRED}
    return {name: text if name in CHOICES or name == "block" else setting(text) for name, text in given.items()}


@cache
def parser_of_predict() -> Parser:
    """The command line's own parser."""
    commands = ("predict", "fit", "measure", "rehearse", "cards", "verify")
    return parser(**dict.fromkeys(commands))
