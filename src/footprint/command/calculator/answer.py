"""The answer to a question, part by part, what is wanted most first: whoever has asked anew takes no further part."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from footprint.command import readout
from footprint.command.calculator.nearest import Reference, nearest
from footprint.command.calculator.question import Question, State, question
from footprint.errors import FootprintError
from footprint.predict.capacity import FITS, of_card
from footprint.predict.fit import STEPS, UNASKED, Candidate, less, possible, towards_change
from footprint.predict.prediction import least_peaks, predict, sampled_timeline
from footprint.spec.cards import Card, catalogue
from footprint.spec.columns import BUCKET_OF, PHASES
from footprint.spec.run import RunSpec
from footprint.spec.units import format_bytes

SAMPLES = 120
"""Points of each phase in the timeline."""

BUCKETS = tuple(dict.fromkeys(BUCKET_OF.values()))

Part = dict[str, object]
"""One part of an answer; `part` says which."""


def parts(state: State, reference: Sequence[Reference]) -> Iterator[Part]:
    """Every part of the answer. `working` comes before each longer calculation, so that it can be left out."""
    try:
        wanted = question(state)
    except FootprintError as error:
        yield {"part": "mistake", "sentence": str(error)}
        return
    candidate = None if wanted.capacity is None else Candidate(wanted.spec, wanted.capacity, wanted.training)
    row = predict(wanted.spec, wanted.training) if candidate is None else candidate.row
    yield prediction(wanted, candidate, row)
    yield {"part": "nearest", "nearest": nearest(wanted.spec, reference)}
    yield {"part": "working", "at": "the timeline"}
    yield _timeline(wanted)
    if candidate is not None and candidate.verdict != FITS:
        yield from _cheapest(wanted)
    yield from _changes(wanted, row)
    yield from _cards(wanted)
    yield {"part": "done"}


def prediction(wanted: Question, candidate: Candidate | None, row: Mapping) -> Part:
    """The prediction itself: `json` is what `footprint predict --json` prints."""
    verdict = [] if candidate is None else readout.verdict(candidate, None).split("\n")
    told = row | UNASKED if candidate is None else candidate.as_dict()
    peak = row["peak_bytes"]
    return {
        "part": "prediction",
        "json": json.dumps(told, indent=1),
        "command": wanted.command,
        "run": readout.in_a_line(wanted.spec),
        "trains": readout.trains(row),
        "peak": format_bytes(peak),
        "bytes": f"{peak:,} bytes",
        "each": f" on each of {wanted.spec.gpus} GPUs" if wanted.spec.gpus > 1 else "",
        "phase": row["peak_phase"],
        "shares": {name: row[f"{name}_bytes"] / peak for name in BUCKETS},
        "buckets": readout.buckets(row),
        "phases": [[name, size, mark.removeprefix("<- ")] for name, size, mark in readout.phases(row)],
        "heights": [row[f"{phase}_peak_bytes"] / peak for phase in PHASES],
        "on_card": readout.on_card(row),
        "textbook": readout.textbook(row),
        "textbook_share": row["textbook_bytes"] / peak,
        "memory_share": None if candidate is None else wanted.capacity.memory / peak,
        "memory": None if candidate is None else format_bytes(wanted.capacity.memory),
        "fits": told["fits"],
        "verdict": verdict[0] if verdict else "",
        "notes": [readout.WHERE[wanted.spec.device], *verdict[1:]],
        "markdown": _markdown(wanted, row, verdict),
    }


def _timeline(wanted: Question) -> Part:
    points = sampled_timeline(wanted.spec, wanted.training, SAMPLES)
    highest = max(point.total for point in points)
    return {
        "part": "timeline",
        "phases": [point.phase for point in points],
        "buckets": {name: [getattr(point, name) / highest for point in points] for name in BUCKETS},
        "highest": format_bytes(highest),
        "counts": "requested bytes" if wanted.spec.device == "cuda" else "bytes",
    }


def _cheapest(wanted: Question) -> Iterator[Part]:
    steps = towards_change(wanted.spec, wanted.capacity, wanted.training)
    while True:
        try:
            next(steps)
            yield {"part": "working", "at": "the cheapest change that makes it fit"}
        except StopIteration as end:
            change = end.value
            break
    made = {} if change.changed is None else {change.axis: str(getattr(change.changed.spec, change.axis))}
    yield {"part": "cheapest", "said": readout.advice(change), "change": made}


def single_changes(spec: RunSpec) -> Iterator[tuple[str, RunSpec]]:
    """Every run that gives something up along one axis, the cheapest first; of a number, half of it."""
    for axis, values in STEPS:
        for run in less(spec, axis, values):
            if isinstance(getattr(spec, axis), int):
                run = possible(spec, {axis: getattr(spec, axis) // 2}) or run
            yield axis, run


def _changes(wanted: Question, row: Mapping) -> Iterator[Part]:
    """What each single change would save."""
    for axis, run in single_changes(wanted.spec):
        yield {"part": "working", "at": "what single changes save"}
        if wanted.capacity is None:
            fits, changed = None, predict(run, wanted.training)
        else:
            candidate = Candidate(run, wanted.capacity, wanted.training)
            fits, changed = candidate.verdict == FITS, candidate.row
        saved = row["peak_bytes"] - changed["peak_bytes"]
        yield {
            "part": "change",
            "change": {axis: str(getattr(run, axis))},
            "saves": format_bytes(saved) if saved >= 0 else f"nothing: takes {format_bytes(-saved)} more",
            "share": saved / row["peak_bytes"],
            "peak": format_bytes(changed["peak_bytes"]),
            "fits": fits,
        }


def _cards(wanted: Question) -> Iterator[Part]:
    """Whether the run fits on each card of the catalogue, those with the least memory first."""
    several = f"{wanted.spec.gpus} × " if wanted.spec.gpus > 1 else ""
    for card in sorted(catalogue().values(), key=lambda card: card.total):
        yield {"part": "working", "at": "every card of the catalogue"}
        told = {"card": card.key, "name": f"{several}{card.name}", "memory": format_bytes(card.total)}
        yield {"part": "card"} | told | _fits(wanted, card)


def _fits(wanted: Question, card: Card) -> Part:
    """Where the tensors alone exceed a card, its allocator need not be asked."""
    capacity, run = of_card(card), replace(wanted.spec, device="cuda", card=card.key)
    exceeds = least_peaks([run], wanted.training)[0] - capacity.room
    if exceeds > 0:
        return {"fits": False, "left": f"lacks more than {format_bytes(exceeds)}"}
    candidate = Candidate(run, capacity, wanted.training)
    left = candidate.headroom
    if candidate.verdict == FITS:
        emptied = ", its cache emptied" if candidate.empties_cache else ""
        return {"fits": True, "left": f"{format_bytes(left)} to spare{emptied}"}
    return {"fits": False, "left": f"{format_bytes(-left)} more would do"}


def _markdown(wanted: Question, row: Mapping, verdict: Sequence[str]) -> str:
    """The answer as text for an issue or a chat."""
    table = [["", "at the peak", "share", ""], ["---", "---:", "---:", "---"], *readout.buckets(row)]
    table.append(["**total**", f"**{format_bytes(row['peak_bytes'])}**", "", f"{row['peak_bytes']:,} bytes"])
    sizes = [f"- {name}: {size} ({exact}), {how}" for name, size, exact, how in readout.on_card(row)]
    phases = [f"- {name}: {size}" for name, size, _ in readout.phases(row)]
    return "\n".join(
        [
            f"**{format_bytes(row['peak_bytes'])}** predicted for {readout.in_a_line(wanted.spec)}",
            "",
            *(f"| {' | '.join(cells)} |" for cells in table),
            "",
            "Highest point of each phase:",
            "",
            *phases,
            "",
            *(["On the card:", "", *sizes, ""] if sizes else []),
            *(line for said in verdict for line in (said, "")),
            readout.textbook(row),
            "",
            "```console",
            wanted.command,
            "```",
        ]
    )
