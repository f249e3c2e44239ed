"""Numbers and names as the report writes them."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from footprint.spec.units import format_bytes


def escape(value: object) -> str:
    """Text that means itself in HTML and in Markdown, whatever it contains.

    Every character that either could read as markup becomes a numeric character reference, which both
    leave alone.
    """
    return "".join(c if c.isalnum() or c in " .,;/-%√×−–·=" else f"&#{ord(c)};" for c in str(value))


def percent(share: float, *, signed: bool = False) -> str:
    """A ratio as a percentage with the digits that matter: `0.04 %`, `12 %`; with its sign `−0.04 %`, `+12 %`."""
    value = 100 * float(share)
    size = abs(value)
    if 0 < size < 0.0005:
        return "under 0.001 %"
    digits = 0 if size >= 10 or size == 0 else 1 if size >= 1 else 2 if size >= 0.01 else 3
    return f"{value:{'+' if signed and value else ''}.{digits}f} %".replace("-", "−")


def listing(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = list(items)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(number: int, noun: str) -> str:
    """`1 run`, `21 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def card_name(key: str) -> str:
    """What people call a card of the catalogue: `A100 80GB` for `a100-80gb`."""
    return key.upper().replace("-", " ")


def size_name(model: str) -> str:
    """What people call a Llama: `13B` for `llama-13b`."""
    return model.removeprefix("llama-").upper()


def shortened(text: str, length: int) -> str:
    """At most `length` characters, the last of them an ellipsis where something is left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def duration(value: float, give: float | None = None) -> str:
    """A duration, with how far it may be off where that is known: `1.9 ms`, `84 ± 2 ms`, `1.20 ± 0.03 s`."""
    scale, unit = (1, "s") if value >= 1 else (1000, "ms")
    value *= scale
    digits = 2 if value < 10 and scale == 1 else 1 if value < (100 if scale == 1 else 9.5) else 0
    least = 10.0**-digits
    more = "" if give is None else f" ± {max(give * scale, least):.{digits}f}"
    return f"{value:.{digits}f}{more} {unit}"


def change(value: float, give: float | None = None) -> str:
    """A change of time as a percentage, with how far it may be off where that is known: `+22 %`, `+22 ± 3 %`."""
    if give is None:
        return percent(value, signed=True)
    return f"{100 * value:+.0f} ± {max(1, round(100 * give))} %".replace("-", "−")


def bits(value: float) -> str:
    """A loss in bits per byte: `1.834`."""
    return f"{float(value):.3f}"


def bits_apart(value: float, *, signed: bool = False) -> str:
    """A difference between losses in bits per byte, of which small ones matter: `0.012`, `0.0003`, `−0.0003`."""
    size = abs(float(value))
    if 0 < size < 0.00005:
        return "under 0.0001"
    if size == 0:
        return "0"
    sign = "" if not signed else "+" if value > 0 else "−"
    return sign + (f"{size:.3f}" if size >= 0.0095 else f"{size:.4f}")


_UNIT = re.compile(
    r"(?<=\d) (?=(?:[KMGT]?i?B|%|ms|s|bits?|bytes|tokens|steps|runs)(?![\w-]))|(?<=\d) (?=± ?\d)|(?<=±) (?=\d)"
)
_CODE = re.compile(r"(<(code|pre|script)\b.*?</\2>)", flags=re.DOTALL)


def typeset(text: str) -> str:
    """Markdown or HTML whose numbers keep their units on the same line; code is left as it is typed."""
    parts = _CODE.split(text)
    # Of three parts in a row the first is text, the second code, the third the name of its element.
    return "".join(
        _UNIT.sub("\N{NO-BREAK SPACE}", part) if place % 3 == 0 else part if place % 3 == 1 else ""
        for place, part in enumerate(parts)
    )


def outcome(run: pd.Series) -> str:
    """What came of a run: its measured peak, or why it has none."""
    if run["status"] == "ok":
        return format_bytes(run["peak_bytes_measured"])
    if run["status"] != "oom":
        return "a loss that is not a number" if run["status"] == "diverged" else str(run["status"])
    where = run["oom_phase"] if isinstance(run["oom_phase"], str) else None
    return f"out of memory in {where}" if where else "out of memory"


def worst(errors: Sequence[float] | pd.Series) -> float:
    """The largest magnitude among relative errors."""
    return float(pd.Series(errors, dtype="float64").abs().max())
