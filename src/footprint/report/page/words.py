"""Numbers and names as the report writes them."""

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


def shortened(text: str, length: int) -> str:
    """At most `length` characters, the last of them an ellipsis where something is left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def seconds(value: float) -> str:
    """A duration with three significant digits: `0.84 s`, `12.3 s`."""
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def step_time(value: float) -> str:
    """The duration of a step or a part of it: `1.9 ms`, `84 ms`, `1.20 s`."""
    if value >= 1:
        return seconds(value)
    return f"{1000 * value:.0f} ms" if value >= 0.0095 else f"{1000 * value:.1f} ms"


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
