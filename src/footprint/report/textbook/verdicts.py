"""Holding a quoted number against a computed one: how close it is, and whether GB was written GiB."""

from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from footprint.report.page.table import Table
from footprint.report.page.words import percent
from footprint.spec.units import format_bytes, parse_bytes

HOLDS, CLOSE = 0.03, 0.10
"""Relative differences up to which a rounded number is right, and near enough to plan with."""

_DECIMAL = {"MiB": 10**6, "GiB": 10**9}
"""What a unit is worth when decimal units were meant."""

GOOD = ("holds", "close", "plausible")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One quantitative claim of the seed text, what was found instead, and the verdict."""

    topic: str
    quote: str
    """The seed's words."""
    found: str
    verdict: str
    remark: str = ""


def judged(claimed: float, found: float) -> str:
    """`holds`, `close`, or how far off the claimed number is."""
    difference = claimed / found - 1
    if abs(difference) <= HOLDS:
        return "holds"
    if abs(difference) <= CLOSE:
        return "close"
    times = max(claimed / found, found / claimed)
    if times >= 2:
        return f"{times:.1f}× too {'high' if difference > 0 else 'low'}"
    return f"{percent(abs(difference))} too {'high' if difference > 0 else 'low'}"


def judged_factor(claimed: float, found: float) -> str:
    """The verdict on a claim that something is so many times another: how many it is, where the claim does not hold."""
    verdict = judged(claimed, found)
    return verdict if verdict in GOOD else f"{found:.1f}×, not {claimed:.1f}×"


def judged_bytes(claimed: str, found: float) -> str:
    """The verdict on a quoted size such as `112 GiB`, which may have been reckoned in GB."""
    number, unit = claimed.split()
    verdict = judged(parse_bytes(claimed), found)
    if verdict != "holds" and judged(float(number) * _DECIMAL[unit], found) == "holds":
        return f"{unit[0]}B, not {unit}"
    return verdict


def size_claim(topic: str, quote: str, claimed: str, found: float, remark: str = "") -> Claim:
    """A claim about bytes; where GB was written GiB, the remark begins with that."""
    verdict = judged_bytes(claimed, found)
    if " not " in verdict:
        number, unit = claimed.split()
        remark = f"{number} {unit[0]}B are {format_bytes(found)}. {remark}".strip()
    return Claim(topic=topic, quote=quote, found=format_bytes(found), verdict=verdict, remark=remark)


def ratio_claim(topic: str, quote: str, claimed: float, found: float, remark: str = "") -> Claim:
    """A claim that something is so many times something else."""
    return Claim(topic=topic, quote=quote, found=f"{found:.1f}×", verdict=judged_factor(claimed, found), remark=remark)


def tally(claims: list[Claim]) -> tuple[int, int, int]:
    """How many hold or come close, how many have the right number in the wrong unit, how many are off."""
    kept = sum(claim.verdict in GOOD for claim in claims)
    units = sum(" not " in claim.verdict and "B" in claim.verdict for claim in claims)
    return kept, units, len(claims) - kept - units


def table(claims: list[Claim]) -> Table:
    """Claims with their verdicts, grouped by topic."""
    raw = pd.DataFrame([vars(claim) for claim in claims])
    shown = pd.DataFrame(
        {
            "Topic": raw["topic"],
            "The lesson says": raw["quote"],
            "Verdict": [coloured(verdict) for verdict in raw["verdict"]],
            "Found": raw["found"],
            "Why": raw["remark"],
        }
    )
    return Table(
        shown=shown,
        raw=raw,
        words=("Verdict",),
        prose=("The lesson says", "Found", "Why"),
        grouped=True,
    )


def coloured(verdict: str) -> Markup:
    """The verdict as the tables show it."""
    return Markup("<span class='{}'>{}</span>").format("good" if verdict in GOOD else "bad", verdict)
