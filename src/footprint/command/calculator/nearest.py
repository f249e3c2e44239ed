"""The run of the committed reference tables that is most like the one that is asked for."""

from collections.abc import Mapping, Sequence

from footprint.predict.fit import COLLAPSED
from footprint.spec.run import AXES, RunSpec
from footprint.spec.units import format_bytes

Reference = Mapping[str, object]
"""A row of a reference table: its axes; `source`, `where`, `device` and `card`; its peak in bytes as it was found, its
predicted one and the textbook's."""

APART = {"model": 8, "regime": 4}
"""How far a different value takes two runs apart, where that is more than 1."""


def nearest(spec: RunSpec, reference: Sequence[Reference]) -> dict[str, object] | None:
    """The nearest run, in which axes it is another, and what is known of it on every device; None without a table."""
    if not reference:
        return None
    wanted = spec.axes()
    found = min(reference, key=lambda row: (_distance(wanted, row), row["device"] != spec.device))
    same = [row for row in reference if not _differing(found, row)]
    same.sort(key=lambda row: (row["device"] != spec.device, row["card"] != spec.card))
    return {
        "run": ", ".join(f"{name} {found[name]}" for name in AXES if found[name] != COLLAPSED.get(name)),
        "differs": _differing(wanted, found),
        "rows": [_shown(row) for row in same],
        "textbook": format_bytes(found["textbook_bytes"]),
    }


def _differing(wanted: Mapping, row: Reference) -> list[str]:
    return [name for name in AXES if wanted[name] != row[name]]


def _distance(wanted: Mapping, row: Reference) -> int:
    return sum(APART.get(name, 1) for name in _differing(wanted, row))


def _shown(row: Reference) -> dict[str, str]:
    actual, predicted = row["peak_bytes"], row["predicted_bytes"]
    error = "exact" if actual == predicted else f"{predicted / actual - 1:+.3%}"
    return {
        "source": row["source"],
        "where": row["where"],
        "peak": format_bytes(actual),
        "predicted": format_bytes(predicted),
        "error": error,
    }
