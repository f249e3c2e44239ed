"""The command `footprint`: predict, search for a card, measure here, rehearse on a card, verify an experiment.

Only `footprint measure` imports PyTorch; the others answer within a second, and so import what they need when they do.
"""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from random import randrange
from shutil import get_terminal_size
from textwrap import fill

from footprint.command import asked
from footprint.command.arguments import RECIPE, parser
from footprint.command.script import require_installed
from footprint.errors import USER_ERROR, FootprintError, user_errors
from footprint.jobs.runtime import prepare_environment
from footprint.predict.capacity import FITS, TOO_LARGE, Capacity, of_card
from footprint.spec.cards import Card
from footprint.spec.checks import require
from footprint.spec.run import DEVICES, REGIMES, RunSpec
from footprint.spec.training import TrainingSpec
from footprint.spec.units import format_bytes, parse_bytes

STATUSES = {FITS: 0, TOO_LARGE: 1}
"""Exit status of a prediction or search by its verdict, the best one of a search."""

NOT_MEASURED = 1
"""Exit status of a measurement that ran out of memory or diverged."""

STOPPED = 130
"""Exit status after Ctrl-C, as shells report it."""

UNBROKEN = {"break_long_words": False, "break_on_hyphens": False}
"""How sentences are wrapped: an option or a name stays in one piece."""


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
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:  # `footprint ... | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk behind `>`; what reads files translates its own errors
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: the answer cannot be written ({error.strerror})", file=sys.stderr)
        return USER_ERROR


def _predict(parsed: Namespace) -> int:
    from footprint.command import readout
    from footprint.predict.fit import UNASKED, Candidate, cheapest_change
    from footprint.predict.prediction import predict, timeline
    from footprint.spec.timeline import write_timeline

    spec, training = asked.run(parsed)
    capacity = asked.capacity(parsed, spec.device)
    if parsed.timeline is not None:
        require(not parsed.timeline.is_dir(), "timeline", str(parsed.timeline), "a file to write")
        write_timeline(parsed.timeline, timeline(spec, training))
    if capacity is None:
        row = predict(spec, training)
        _print_json(row | UNASKED) if parsed.json else _print(readout.prediction(spec, row, capacity))
        return 0
    candidate = Candidate(spec, capacity, training)
    row = candidate.row
    if parsed.json:
        _print_json(candidate.as_dict())
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
    from footprint.jobs.side_by_side import side_by_side
    from footprint.predict.search import search

    if parsed.rehearse:
        return _fit_by_rehearsals(parsed)
    recipe = next((name for name in ("stack", *RECIPE) if getattr(parsed, name) is not None), None)
    require(recipe is None, recipe or "", recipe and getattr(parsed, recipe), "absent without --rehearse")
    setup = asked.setup(parsed.config, asked.device(parsed))
    given = parsed.gpu_memory is not None or parsed.card is not None
    require(given, "card", None, "one of those `footprint cards` lists, or give --gpu-memory")
    capacity = asked.capacity(parsed, asked.device(parsed))
    model = asked.model(parsed, setup)
    with side_by_side() as each:
        settings = search(model, asked.axes(parsed), capacity, setup.training, each)
    if parsed.json:
        _print_json({"gpu_memory_bytes": capacity.memory, "settings": [setting.as_dict() for setting in settings]})
    else:
        _print("\n".join([*_reading(parsed), readout.search(settings, capacity)]))
    return STATUSES[settings[0].verdict]


def _fit_by_rehearsals(parsed: Namespace) -> int:
    """What fits under Transformers' Trainer: every answer is a rehearsal."""
    from footprint.command import trainers
    from footprint.jobs.trainers import largest_of_each

    require(parsed.card is not None, "card", None, "one of those `footprint cards` lists, to rehearse on it")
    require(asked.device(parsed) == "cuda", "device", parsed.device, "cuda with --rehearse, or leave it out")
    require(
        asked.stack(parsed, "transformers") == "transformers", "stack", parsed.stack, "transformers with --rehearse"
    )
    memory = None if parsed.gpu_memory is None else parse_bytes(parsed.gpu_memory, "gpu-memory")
    card = asked.card(parsed.card, memory)
    settings, lengths = asked.settings(parsed, card)
    found = list(largest_of_each(settings, lengths, card, partial(print, file=sys.stderr, flush=True)))
    if parsed.json:
        _print_json({"card": card.key, "settings": [row for _, row in found]})
    else:
        _print(trainers.largest(found, card))
    return 0 if any(row["status"] == "ok" for _, row in found) else 1


def _measure(parsed: Namespace) -> int:
    spec, training = asked.run(parsed)
    prepare_environment(spec.device)  # before anything asks for bitsandbytes, which may start CUDA
    require_installed("measure", "torch", "bitsandbytes", "peft", "pandas", "safetensors")
    return _carry_out(spec, training, _predicted_here(spec, training, forced=parsed.force), as_json=parsed.json)


def _carry_out(spec: RunSpec, training: TrainingSpec, predicted: Mapping, *, as_json: bool) -> int:
    """Train in this process and show what that took beside the prediction; returns the exit status."""
    from footprint.command import readout

    try:
        from footprint.jobs.stacks import carry_out
        from footprint.measure.measurement import require_device
    except (ImportError, OSError, MemoryError) as error:  # a limit on memory keeps libraries out too
        raise FootprintError(
            f"measure: PyTorch and what it needs cannot be loaded ({error or type(error).__name__})"
        ) from None

    require_device(spec.device, spec.card)
    row = carry_out(spec, training).row
    if as_json:
        _print_json({row["source"]: row, "predicted": predicted})
    else:
        _print(readout.measurement(spec, row, predicted))
    return 0 if row["status"] == "ok" else NOT_MEASURED


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
        change = cheapest_change(spec, Capacity(largest_peak(found.size)), training)
        if change.changed is not None:
            smaller = change.changed
            taken = format_bytes(needed_bytes(smaller.spec, smaller.row["peak_bytes"]))
            advice = f"with --{change.axis} {getattr(smaller.spec, change.axis)} it would take {taken}"
    raise FootprintError(f"{spec.model.name}: {shortage(needed, found)}; {advice}, use --force to measure anyway")


def _rehearse(parsed: Namespace) -> int:
    from footprint.command import rehearsal

    memory = None if parsed.gpu_memory is None else parse_bytes(parsed.gpu_memory, "gpu-memory")
    card = asked.card(parsed.card, memory)
    if not any((parsed.model, parsed.model_json, parsed.hf_config)):
        return rehearsal.carry_out(card, parsed)
    for option in ("steps", "timeline", "snapshot", "program"):
        value = getattr(parsed, option)
        shown = str(value) if isinstance(value, Path) else value
        require(value in (None, []), option, shown, "absent where a model is given")
    require(parsed.regime is not None, "regime", None, f"one of {', '.join(REGIMES)}, which a model needs")
    stack = asked.stack(parsed, "minigpt" if parsed.hf_config is None else "transformers")
    return (_rehearse_trainer if stack == "transformers" else _rehearse_run)(card, parsed)


def _rehearse_run(card: Card, parsed: Namespace) -> int:
    """A run of the project's own loop; this process starts anew as if on the card."""
    from footprint.jobs.pretended import enter
    from footprint.predict.prediction import predict

    parsed.device, parsed.card = "cuda", card.key
    spec, training = asked.run(parsed)
    enter(card)
    prepare_environment(spec.device)
    return _carry_out(spec, training, predict(spec, training, room=of_card(card).room), as_json=parsed.json)


def _rehearse_trainer(card: Card, parsed: Namespace) -> int:
    """A run under Transformers' Trainer, in a process with the card."""
    from footprint.command import trainers
    from footprint.jobs.trainers import BOUNDLESS, rehearse_alone

    run = asked.transformers_run(parsed, card)
    found = rehearse_alone(run, card)
    # What does not fit is rehearsed again where it does.
    needed = found if found.fits else rehearse_alone(run, replace(card, total=BOUNDLESS))
    if parsed.json:
        told = {"recipe": asdict(run.recipe), "gpu_memory_bytes": card.total, "fits": found.fits}
        told |= {"verdict": FITS if found.fits else TOO_LARGE}
        _print_json(found.row | told | {"needed": None if found.fits else needed.row, "live": needed.live})
    else:
        _print(trainers.trainer(run, found, needed, card))
    return STATUSES[FITS if found.fits else TOO_LARGE]


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


def _reading(parsed: Namespace) -> list[str]:
    """How the memory of a card was read, where it was not written in binary units."""
    written = parsed.gpu_memory
    if written is None or written.strip().endswith("iB"):
        return []
    return [f"--gpu-memory {written} is read as {format_bytes(parse_bytes(written))}."]


def _print(text: str) -> None:
    """Print sentences as wide as the terminal, or 80 columns where that is unknown; tables, indented, as they are."""
    width = get_terminal_size().columns
    print("\n".join(line if line.startswith("  ") else fill(line, width, **UNBROKEN) for line in text.split("\n")))


def _print_json(answer: Mapping) -> None:
    print(json.dumps(answer, indent=1))
