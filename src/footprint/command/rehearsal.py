"""The commands `footprint rehearse` and `footprint cards`, and what they print."""

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from footprint.command.ranks import as_rows, asked_ranks, highest, limits, side_by_side
from footprint.command.readout import HONEST, aligned
from footprint.errors import FootprintError
from footprint.rehearsal.launch import Rehearsal, ended, peak, rehearse
from footprint.spec.cards import Card, catalogue
from footprint.spec.checks import require
from footprint.spec.units import format_bytes

STEPS = 3
"""Optimizer steps that a program makes unless it is told otherwise: the second is like all that follow."""

SHOWN_PHASES = {
    "build": "build",
    "forward": "forward",
    "backward": "backward",
    "step": "optimizer step",
    "between": "between steps",
}


def carry_out(card: Card, parsed: Namespace) -> int:
    """`footprint rehearse` of a program; returns the exit status."""
    command = parsed.program[1:] if parsed.program[:1] == ["--"] else parsed.program
    if not command:
        raise FootprintError(
            "command: nothing to rehearse; write a program after --, as in -- python train.py, or name a --model"
        )
    steps = STEPS if parsed.steps is None else parsed.steps
    whole = steps == "all" or (isinstance(steps, int) and steps > 0)
    require(whole, "steps", steps, "a whole number from 1, or all")
    files = {"timeline": parsed.timeline, "snapshot": parsed.snapshot}
    gpus, ranks = asked_ranks(parsed.gpus, parsed.rank)
    for name, path in files.items():
        require(path is None or not path.is_dir(), name, str(path), "a file to write")
        require(path is None or len(ranks) == 1, name, str(path), "absent where several ranks are rehearsed")
    common = {"steps": None if steps == "all" else steps, "gpus": gpus, "quiet": parsed.json, **files}
    found = []
    for rank in ranks:
        found.append(rehearse(card, command, rank=rank, **common))
        if found[-1].refusal:
            break  # no other rank would be told otherwise
    shown = highest(found)
    if parsed.json:
        told = {} if gpus is None else {"gpus": gpus, "ranks": as_rows(found)}
        print(json.dumps(as_dict(shown) | told, indent=1))
    else:
        print(text(shown, found))
    return shown.status


def show_cards(parsed: Namespace) -> int:
    """`footprint cards`; returns the exit status."""
    found = list(catalogue().values())
    print(json.dumps([asdict(card) for card in found], indent=1) if parsed.json else cards(found))
    return 0


def cards(found: Sequence[Card]) -> str:
    """The catalogue as a table."""
    rows = [["card", "", "capability", "memory", "context", "checked"]]
    rows += [
        [card.key, card.name, card.capability, format_bytes(card.total), format_bytes(card.context), _checked(card)]
        for card in found
    ]
    return "\n".join(aligned(rows))


def _checked(card: Card) -> str:
    return "yes" if card.checked else "no"


def text(found: Rehearsal, ranks: Sequence[Rehearsal] = ()) -> str:
    """What a rehearsal found: peaks, phases, buckets, largest tensors, and how it ended; `ranks` are all that ran."""
    of_rank = "" if found.gpus is None else f", rank {found.rank} of {found.gpus}"
    lines = [f"{found.card.name} ({format_bytes(found.card.total)}){of_rank}: {ended(found)}.", HONEST]
    lines += limits(found)
    if len(ranks) > 1:
        lines += ["", *side_by_side(ranks)]
    if found.refusal:
        lines += ["", found.refusal]
    if not found.processes:
        lines += ["", "No process that used the card left a report."]
    for report in found.processes:
        if peak(report, "reserved") or not found.refusal:  # else the refusal is all there is to say
            lines += ["", *_process(report, found, several=len(found.processes) > 1)]
    return "\n".join([*lines, *_verdict(found)])


def as_dict(found: Rehearsal) -> dict[str, object]:
    """The same for a program to read; sizes in bytes."""
    processes = [
        report | {f"peak_{what}_bytes": peak(report, what) for what in ("allocated", "requested", "reserved")}
        for report in found.processes
    ]
    highest = processes[0] if processes else None
    return {
        "source": "rehearsed",
        "card": found.card.key,
        "card_total_bytes": found.card.total,
        "context_bytes": found.card.context,
        "status": "oom" if found.failed else "refused" if found.refusal else "ok" if not found.returned else "failed",
        "exit_status": found.status,
        "peak_allocated_bytes": highest and highest["peak_allocated_bytes"],
        "peak_requested_bytes": highest and highest["peak_requested_bytes"],
        "peak_reserved_bytes": highest and highest["peak_reserved_bytes"],
        "peak_on_card_bytes": highest and highest["peak_reserved_bytes"] + found.card.context,
        "refusal": found.refusal,
        "remark": " ".join(limits(found)) or None,
        "processes": processes,
    }


def _process(report: Mapping, found: Rehearsal, *, several: bool) -> Iterator[str]:
    if several:
        yield f"Process {report['process']}: {' '.join(report['program'])}"
    reserved = peak(report, "reserved")
    yield "Peaks"
    yield from aligned(
        [
            ["allocated", *_size(peak(report, "allocated")), ""],
            ["requested", *_size(peak(report, "requested")), ""],
            ["reserved", *_size(reserved), ""],
            ["on the card", *_size(reserved + found.card.context), "with the CUDA context"],
        ],
    )
    yield ""
    yield "Highest point of each phase (allocated)"
    highest = peak(report, "allocated")
    sizes = {name: report["phases"].get(name, {}).get("allocated_bytes", 0) for name in SHOWN_PHASES}
    yield from aligned(
        [
            [SHOWN_PHASES[name], format_bytes(size), "<- the peak" if size == highest else ""]
            for name, size in sizes.items()
            if size
        ]
    )
    yield ""
    yield "At the peak (requested)"
    yield from aligned([[name, format_bytes(size)] for name, size in report["buckets"].items() if size])
    yield ""
    yield "Largest tensors at the peak"
    yield from aligned(list(_largest(report["largest"])))


def _size(size: int) -> tuple[str, str]:
    return format_bytes(size), f"{size:,} bytes"


def _largest(tensors: Sequence[Mapping]) -> Iterator[list[str]]:
    """Tensors of one size, bucket and line together."""
    alike = groupby(tensors, key=lambda tensor: (tensor["bytes"], tensor["bucket"], tensor["line"]))
    for (size, bucket, line), group in alike:
        number = len(list(group))
        yield [f"{number} x" if number > 1 else "", format_bytes(size), bucket, _short(line)]


def _short(line: str | None) -> str:
    """A line of the program by the name of its file, relative where that is shorter."""
    if line is None:
        return "no line of the program"
    path, _, rest = line.partition(":")
    here = Path(path)
    shown = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    return f"{shown}:{rest}"


def _verdict(found: Rehearsal) -> Iterator[str]:
    if found.failed:
        failure = next(process["failures"][-1] for process in found.processes if process["failures"])
        yield ""
        yield (
            f"Out of memory in {SHOWN_PHASES.get(failure['phase'], failure['phase'])}, asking for "
            f"{format_bytes(failure['asked'])} with {format_bytes(failure['free'])} free: "
            f"{_short(failure['line'])}."
        )
    elif found.processes and not found.refusal and not found.returned:
        used = peak(found.processes[0], "reserved") + found.card.context
        yield ""
        yield f"It fits on this card, with {format_bytes(found.card.total - used)} to spare."
        failures = sum(len(process["failures"]) for process in found.processes)
        if failures:
            yield f"It ran out of memory {failures} times on the way, and went on."
