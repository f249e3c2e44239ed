"""Bytes as people write them ("24GiB", "24GB", "24") and as people read them ("1.5 GiB")."""

import re

from footprint.errors import FootprintError

_FACTORS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_QUANTITY = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kmgt])i?b?|(b)(?:ytes?)?)?\s*", re.IGNORECASE | re.ASCII)

MOST_GIB, FEWEST_BYTES = 1024, 2**20
"""A number without a unit is GiB up to the first and bytes from the second; between them nobody knows."""


def parse_bytes(value: int | str, key: str = "memory") -> int:
    """Bytes from an amount that somebody wrote, or an integer, which is bytes.

    Memory is sold and shown in binary units, so `24GB`, `24G`, `24gib` and `24` are all 24 x 2^30 bytes, and a long
    number without a unit is bytes. Raises FootprintError naming `key` for anything else, and for a number without a
    unit that may be either.
    """
    size = value if isinstance(value, int) and not isinstance(value, bool) else _read(value, key)
    if size <= 0:
        raise FootprintError(f"{key}: {str(value)[:40]!r} must be more than 0 bytes, for example 24GiB")
    return size


def _read(value: object, key: str) -> int:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise FootprintError(
            f"{key}: {str(value)[:40]!r} is not an amount of memory; "
            "write a number with B, KiB, MiB, GiB or TiB, for example 24GiB"
        )
    number, prefix, alone = float(match[1]), match[2], match[3]
    if prefix or alone:
        return int(number * _FACTORS[f"{prefix.upper()}iB" if prefix else "B"])
    if MOST_GIB < number < FEWEST_BYTES:
        raise FootprintError(
            f"{key}: {value[:40]!r} is ambiguous (MiB or bytes); write the unit, for example {match[1]}MiB"
        )
    return int(number * (_FACTORS["GiB"] if number <= MOST_GIB else 1))


def format_bytes(size: float) -> str:
    """A size in bytes in the largest binary unit that keeps it at 1 or more, with three significant digits."""
    magnitude = abs(size)
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if magnitude >= _FACTORS[unit]:
            scaled = size / _FACTORS[unit]
            decimals = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
            return f"{scaled:.{decimals}f} {unit}"
    return f"{size:.0f} B"
