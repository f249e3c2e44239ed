"""The command `footprint`: predict, search for a card, measure here, rehearse on a card, verify an experiment.

Only `footprint measure` imports PyTorch; the others answer within a second, and so import what they need when they do.
"""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from random import randrange
from shutil import get_terminal_size
from textwrap import fill

from footprint.command.arguments import AXES, parser
from footprint.command.script import require_installed
from footprint.errors import USER_ERROR, FootprintError, user_errors
from footprint.jobs.runtime import prepare_environment
from footprint.predict.capacity import FITS, TIGHT, TOO_LARGE, Capacity
from footprint.spec.checks import require
from footprint.spec.model import ModelSpec
from footprint.spec.presets import PRESETS
from footprint.spec.run import DEVICES, RunSpec
from footprint.spec.training import TrainingSpec
from footprint.spec.units import format_bytes, parse_bytes

STATUSES = {FITS: 0, TOO_LARGE: 1, TIGHT: 3}
"""Exit status of a prediction or search by its verdict, the best one of a search."""

NOT_MEASURED = 1
"""Exit status of a measurement that ran out of memory or diverged."""

CUSTOM = "custom"
"""Name of a model given as --model-json."""

UNBROKEN = {"break_long_words": False, "break_on_hyphens": False}
"""How sentences are wrapped: an option or a name stays in one piece."""

ABSENT = {
    "experiment": "prediction",
    "models": {"unasked": {"layers": 1, "width": 8, "heads": 1, "vocab": 2, "context": 1}},
    "grids": [{"model": "unasked", "regime": "full", "seq": 1}],
    "corpus": {"kind": "path", "path": "unread", "sha256": "0" * 64},
    "quality": None,
}
"""What is of no matter when only the models, the device and the training settings of a config file are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What a config file says that concerns a prediction."""

    models: Mapping[str, ModelSpec] = field(default_factory=lambda: PRESETS)
    device: str | None = None
    training: TrainingSpec = field(default_factory=TrainingSpec)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    try:
        with user_errors():
            if sys.stdout is None:
                raise FootprintError("the answer cannot be written: standard output is closed")
            actions = {"predict": _predict, "fit": _fit, "measure": _measure, "verify": _verify}
            actions |= {"rehearse": _rehearse, "cards": _cards}
            parsed = parser(**actions).parse_args(arguments)
            status = parsed.action(parsed)
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # `footprint ... | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk behind `>`; what reads files translates its own errors
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: the answer cannot be written ({error.strerror})", file=sys.stderr)
        return USER_ERROR


def _predict(parsed: Namespace) -> int:
    from footprint.command import readout
    from footprint.predict.fit import Candidate, cheapest_change
    from footprint.predict.prediction import predict

    spec, training = _run(parsed)
    capacity = _capacity(parsed, spec.device)
    row = predict(spec, training)
    if capacity is None:
        answer = dict.fromkeys(("gpu_memory_bytes", "verdict", "fits", "headroom_bytes"))
        _print_json(row | answer) if parsed.json else _print(readout.prediction(spec, row, capacity))
        return 0
    candidate = Candidate(spec, row, capacity)
    if parsed.json:
        answer = {"gpu_memory_bytes": capacity.memory, "verdict": candidate.verdict, "fits": candidate.verdict == FITS}
        _print_json(row | answer | {"headroom_bytes": candidate.headroom})
    else:
        change = None if candidate.verdict == FITS else cheapest_change(spec, capacity, training)
        _print(
            "\n".join(
                [readout.prediction(spec, row, capacity), "", *_reading(parsed), readout.verdict(candidate, change)]
            )
        )
    return STATUSES[candidate.verdict]


def _fit(parsed: Namespace) -> int:
    from footprint.command import readout
    from footprint.predict.fit import search

    setup = _setup(parsed.config, _device(parsed))
    axes = {axis: getattr(parsed, axis) for axis in AXES if getattr(parsed, axis, None) is not None}
    capacity = _capacity(parsed, _device(parsed))
    settings = search(_model(parsed, setup), axes, capacity, setup.training)
    if parsed.json:
        _print_json({"gpu_memory_bytes": capacity.memory, "settings": [setting.as_dict() for setting in settings]})
    else:
        _print("\n".join([*_reading(parsed), readout.search(settings, capacity)]))
    return STATUSES[settings[0].verdict]


def _measure(parsed: Namespace) -> int:
    spec, training = _run(parsed)
    prepare_environment(spec.device)  # before anything asks for bitsandbytes, which may start CUDA
    require_installed("measure", "torch", "bitsandbytes", "peft", "pandas", "safetensors")
    from footprint.command import readout

    predicted = _predicted_here(spec, training, forced=parsed.force)
    try:
        from footprint.jobs.fresh import random_batches
        from footprint.measure.measurement import batches_needed, measure, require_device
    except (ImportError, OSError, MemoryError) as error:  # a limit on memory keeps libraries out too
        raise FootprintError(
            f"measure: PyTorch and what it needs cannot be loaded ({error or type(error).__name__})"
        ) from None

    require_device(spec.device)
    measured = measure(spec, training, random_batches(spec, batches_needed(training))).row
    if parsed.json:
        _print_json({"measured": measured, "predicted": predicted})
    else:
        _print(readout.measurement(spec, measured, predicted))
    return 0 if measured["status"] == "ok" else NOT_MEASURED


def _predicted_here(spec: RunSpec, training: TrainingSpec, *, forced: bool) -> dict[str, object]:
    """The prediction; FootprintError where this process may not hold what the run takes, unless `forced`."""
    from footprint.jobs.available_memory import room
    from footprint.jobs.host_memory import LOADED, largest_peak, needed_bytes, shortage
    from footprint.predict.fit import cheapest_change
    from footprint.predict.prediction import predict

    predicted, found = predict(spec, training), room()
    needed = needed_bytes(spec, predicted["peak_bytes"])
    if found is None or needed <= found.size or (forced and found.size >= LOADED):
        return predicted
    if found.size < LOADED:
        taken, left = format_bytes(LOADED), format_bytes(found.size)
        raise FootprintError(
            f"measure: PyTorch alone takes about {taken} of memory, and {found.bound} leaves it {left}"
        )
    advice = "no single change makes it fit"
    if spec.device == "cpu":
        change = cheapest_change(spec, Capacity(largest_peak(found.size), spec.device), training)
        if change.changed is not None:
            smaller = change.changed
            taken = format_bytes(needed_bytes(smaller.spec, smaller.row["peak_bytes"]))
            advice = f"with --{change.axis} {getattr(smaller.spec, change.axis)} it would take {taken}"
    raise FootprintError(f"{spec.model.name}: {shortage(needed, found)}; {advice}, use --force to measure anyway")


def _rehearse(parsed: Namespace) -> int:
    from footprint.command.rehearsal import carry_out

    return carry_out(parsed)


def _cards(parsed: Namespace) -> int:
    from footprint.command.rehearsal import show_cards

    return show_cards(parsed)


def _verify(parsed: Namespace) -> int:
    require_installed("pipeline", "pandas", "torch", "snakemake")
    from footprint.jobs.verify import ANY_SEED, verify

    there = parsed.device in DEVICES or parsed.device.endswith("-rehearsed")
    require(there, "device", parsed.device, f"one of {', '.join(DEVICES)}, or <card>-rehearsed")
    require(isinstance(parsed.rows, int) and parsed.rows > 0, "rows", parsed.rows, "a whole number from 1")
    known = parsed.seed is None or (isinstance(parsed.seed, int) and parsed.seed >= 0)
    require(known, "seed", parsed.seed, "a whole number from 0")
    seed = randrange(ANY_SEED) if parsed.seed is None else parsed.seed
    problems = 0
    for line, wrong in verify(Path("results"), parsed.experiment, parsed.device, rows=parsed.rows, seed=seed):
        print(line, flush=True)
        problems += wrong
    return 1 if problems else 0


def _run(parsed: Namespace) -> tuple[RunSpec, TrainingSpec]:
    setup = _setup(parsed.config, _device(parsed))
    given = {axis: getattr(parsed, axis) for axis in AXES if getattr(parsed, axis) is not None}
    device = _device(parsed) or setup.device or "cpu"
    if parsed.config is not None:
        from footprint.experiment.config import require_half

        require_half(setup.training, device)
    return RunSpec(model=_model(parsed, setup), device=device, **given), setup.training


def _device(parsed: Namespace) -> str | None:
    """The device that was asked for: a card means CUDA unless the command line says otherwise."""
    return parsed.device or ("cuda" if parsed.gpu_memory else None)


def _setup(path: Path | None, device: str | None) -> Setup:
    """What the config file declares, checked as a whole; without one, the presets."""
    if path is None:
        return Setup()
    from footprint.experiment.config import parse
    from footprint.experiment.yaml_file import load

    config = load(path)
    told = parse(ABSENT | config | {name: ABSENT[name] for name in ("grids", "quality")} | _with_models(config, device))
    models = {name: ModelSpec(name=name, **sizes) for name, sizes in config.get("models", {}).items()}
    return Setup(models=PRESETS | models, device=config.get("device"), training=told.training)


def _with_models(config: Mapping, device: str | None) -> dict:
    """The config's own models beside the one of ABSENT, on the device that was asked for."""
    models = config.get("models", {})
    kept = {"models": models | ABSENT["models"] if isinstance(models, dict) else models}
    return kept if device is None else kept | {"device": device}


def _model(parsed: Namespace, setup: Setup) -> ModelSpec:
    if parsed.model_json is not None:
        return _custom_model(parsed.model_json)
    if parsed.hf_config is not None:
        from footprint.spec.published import read_shape

        return read_shape(parsed.hf_config)
    if parsed.model in setup.models:
        return setup.models[parsed.model]
    near = get_close_matches(parsed.model, setup.models, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise FootprintError(f"model: {parsed.model[:60]!r} is not known{hint}; use one of {', '.join(setup.models)}")


def _custom_model(text: str) -> ModelSpec:
    from footprint.experiment.config import parse

    try:
        sizes = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise FootprintError(f'model-json: not JSON ({error}); use sizes such as {{"layers": 2, ...}}') from None
    parse(ABSENT | _with_models({"models": {CUSTOM: sizes}}, None))
    return ModelSpec(name=CUSTOM, **sizes)


def _each_once(pairs: list[tuple[str, object]]) -> dict:
    repeated = [name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number])]
    if repeated:
        raise ValueError(f"the key {repeated[0][:60]!r} stands in it twice")
    return dict(pairs)


def _capacity(parsed: Namespace, device: str) -> Capacity | None:
    return None if parsed.gpu_memory is None else Capacity(parse_bytes(parsed.gpu_memory, "gpu-memory"), device)


def _reading(parsed: Namespace) -> list[str]:
    """How the card's memory was read, where it was not written in binary units."""
    written, size = parsed.gpu_memory, parse_bytes(parsed.gpu_memory)
    return [] if written.strip().endswith("iB") else [f"--gpu-memory {written} is read as {format_bytes(size)}."]


def _print(text: str) -> None:
    """Print sentences as wide as the terminal, or 80 columns where that is unknown; tables, indented, as they are."""
    width = get_terminal_size().columns
    print("\n".join(line if line.startswith("  ") else fill(line, width, **UNBROKEN) for line in text.split("\n")))


def _print_json(answer: Mapping) -> None:
    print(json.dumps(answer, indent=1))
