"""Bytes as people write them ("24GiB") and as people read them ("1.5 GiB"). Binary units only."""

import math
import re

from footprint.errors import FootprintError

_FACTORS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_QUANTITY = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]iB|B)?\s*")


def parse_bytes(value: int | str, key: str = "memory") -> int:
    """Bytes from `24GiB`, `512 MiB`, `1000` or an integer.

    Raises FootprintError naming `key` for anything else (decimal units included: 1 GB is not 1 GiB).
    """
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if match is None:
        raise FootprintError(
            f"{key}: {str(value)[:40]!r} is not an amount of memory; "
            "write a number with B, KiB, MiB, GiB or TiB, for example 24GiB"
        )
    size = int(float(match[1]) * _FACTORS[match[2]]) if match[2] else math.trunc(float(match[1]))
    if size <= 0:
        raise FootprintError(f"{key}: {str(value)[:40]!r} must be more than 0 bytes, for example 24GiB")
    return size


def format_bytes(size: float) -> str:
    """A size in bytes in the largest binary unit that keeps it at 1 or more, with three significant digits."""
    magnitude = abs(size)
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if magnitude >= _FACTORS[unit]:
            scaled = size / _FACTORS[unit]
            decimals = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
            return f"{scaled:.{decimals}f} {unit}"
    return f"{size:.0f} B"
