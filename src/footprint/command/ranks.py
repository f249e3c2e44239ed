"""`footprint rehearse --gpus`: which ranks are rehearsed, and what they show side by side."""

from collections.abc import Iterator, Sequence

from footprint.command.readout import aligned
from footprint.rehearsal.launch import Rehearsal, ended, peak
from footprint.spec.checks import require, whole
from footprint.spec.units import format_bytes

MOST = 64
"""Cards that the stand-in can tell apart."""

UNCOUNTED = (
    "Each rank is rehearsed alone, as if the others held what it holds. What NCCL takes of a card outside PyTorch's "
    "allocator is not counted."
)
ALONE = "The program never started a process group: it was rehearsed as one of one."


def asked_ranks(gpus: object, ranks: object) -> tuple[int | None, tuple[int, ...]]:
    """How many ranks there are, None without --gpus, and those to rehearse: one, several as `0,7`, or `all`."""
    if gpus is None:
        require(ranks is None, "rank", ranks, "absent for a program without --gpus")
        return None, (0,)
    whole("gpus", gpus, 1, MOST)
    if ranks == "all":
        return gpus, tuple(range(gpus))
    named = str(0 if ranks is None else ranks).split(",")
    for rank in named:
        fits = rank.strip().isdecimal() and int(rank) < gpus
        require(fits, "rank", rank, f"one of 0 to {gpus - 1}, several as 0,{gpus - 1}, or all")
    return gpus, tuple(dict.fromkeys(map(int, named)))


def highest(found: Sequence[Rehearsal]) -> Rehearsal:
    """The rank that says most of the whole: one that did not run, else the one whose card holds most."""
    return next((one for one in found if one.status), max(found, key=lambda one: reached(one, "reserved")))


def reached(found: Rehearsal, what: str) -> int:
    """The highest `allocated`, `requested` or `reserved` of a rank, 0 where it left no report."""
    return max((peak(report, what) for report in found.processes), default=0)


def limits(found: Rehearsal) -> list[str]:
    """What limits the answer, a sentence each."""
    remarks = [] if found.remark is None else [found.remark]
    if found.gpus is None:
        return remarks
    reports = found.processes
    alone = bool(reports) and all(report["rank"] is None for report in reports)
    return [*remarks, ALONE if alone else UNCOUNTED]


def side_by_side(found: Sequence[Rehearsal]) -> Iterator[str]:
    """A line for each rank."""
    yield f"{len(found)} of {found[0].gpus} ranks"
    rows = [["rank", "allocated", "reserved", "on the card", ""]]
    for one in found:
        reserved = reached(one, "reserved")
        sizes = (reached(one, "allocated"), reserved, reserved + one.card.context)
        rows.append([str(one.rank), *map(format_bytes, sizes), ended(one) if one.status else ""])
    yield from aligned(rows)


def as_rows(found: Sequence[Rehearsal]) -> list[dict[str, object]]:
    """The same for a program to read; sizes in bytes."""
    names = ("allocated", "requested", "reserved")
    return [
        {"rank": one.rank, "exit_status": one.status} | {f"peak_{name}_bytes": reached(one, name) for name in names}
        for one in found
    ]
