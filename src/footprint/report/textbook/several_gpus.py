"""The lesson's claim about several cards, held against rehearsals where there are any, else against 16 N."""

from footprint.predict.textbook import TRAINED
from footprint.report.page.words import listing
from footprint.report.reading.several_gpus import Sharded
from footprint.report.sentences.several_gpus import CLAIMED, fewest_in_full, typical_for
from footprint.report.textbook.verdicts import Claim
from footprint.spec.units import parse_bytes

QUOTE = f"training 7B+ models: {CLAIMED[0]}–{CLAIMED[1]} A100s typical for full FT"


def cards(topic: str, parameters: float, rehearsed: Sharded | None) -> Claim:
    """The claim and its verdict; `parameters` are those of the 7B that the lesson reckons with."""
    needed = {card: -(-TRAINED * parameters // parse_bytes(card)) for card in ("40 GiB", "80 GiB")}
    alone = f"at least {' or '.join(f'{count:.0f} of {card}' for card, count in needed.items())}"
    if rehearsed is not None:
        return _tried(topic, rehearsed, f"16 N of 7B alone, evenly split, takes {alone}.")
    return Claim(
        topic=topic,
        quote=QUOTE,
        found=alone,
        verdict="plausible" if max(needed.values()) <= CLAIMED[1] else "too few",
        remark="16 N of 7B alone, evenly split; activations and communication take the rest.",
    )


def _tried(topic: str, rehearsed: Sharded, beside: str) -> Claim:
    sizes = typical_for(rehearsed)
    return Claim(
        topic=topic,
        quote=QUOTE,
        found=fewest_in_full(rehearsed),
        verdict="holds" if len(sizes) == len(rehearsed.models) else f"for {listing(sizes) or 'no size'} only",
        remark=f"Rehearsed: the fewest of {listing(map(str, rehearsed.gpus))} cards that hold one sequence of "
        f"{rehearsed.tokens:,} tokens on each, every block checkpointed. {beside}",
    )
