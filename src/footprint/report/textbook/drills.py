"""The original text's four drill problems, answered by computation."""

import numpy as np
import pandas as pd

from footprint.predict.capacity import of_size
from footprint.predict.parameters import NF4_BLOCK, resident
from footprint.predict.prediction import predict
from footprint.report.page.empty import NoRunsError
from footprint.report.page.table import Table
from footprint.report.page.words import listing, percent
from footprint.report.reading.effects import checkpointing_effects
from footprint.report.reading.selection import REGIME_NAMES
from footprint.report.reading.times import typical
from footprint.report.tables.ablation import FROZEN_PART, TRAINED_PARTS
from footprint.report.textbook.claims import RANK_13B, SLOWDOWN, llama
from footprint.spec.run import REGIMES
from footprint.spec.units import format_bytes, parse_bytes

CARD = "24 GiB"

OUTER_BLOCK = 256
"""Scales that share one outer scale in double quantization."""

EIGHT_BIT_BLOCK = 256
"""Elements of an 8-bit Adam moment that share one fp32 scale (bitsandbytes' block-wise optimizers)."""


def thirteen_billion() -> Table:
    """Drill 1: LLaMA-13B with adapters of rank 16 on all Linears, in three regimes, against a 24 GiB card."""
    shown, raw = [], []
    for regime in REGIMES:
        row = predict(llama("13b", regime, rank=RANK_13B))
        card = of_size(parse_bytes(CARD))
        room = card.room - card.taken(row)
        verdict = f"fits, {format_bytes(room)} left" if room >= 0 else f"{format_bytes(-room)} too much"
        shown.append(
            {
                "Regime": REGIME_NAMES[regime],
                "Trainable": f"{row['trainable_parameters']:,}",
                "Textbook": format_bytes(row["textbook_bytes"]),
                "Weights": format_bytes(row["weights_bytes"]),
                "Adam": format_bytes(row["optimizer_bytes"]),
                "Predicted peak": format_bytes(row["peak_bytes"]),
                "On the card": format_bytes(row["process_peak_bytes"]),
                f"Of {CARD}": verdict,
            }
        )
        raw.append(row)
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw))


def adapters_13b() -> int:
    """Trainable parameters of drill 1."""
    return resident(llama("13b", "lora", rank=RANK_13B)).trainable


def parameters_7b() -> int:
    """Parameters of LLaMA-7B, which drill 3 is about."""
    return resident(llama("7b", "full")).trainable


def scale_overhead() -> Table:
    """Drill 2: bits per weight spent on scales, before and after double quantization."""
    shown, raw = [], []
    for name, bits in (("fp16, as the drill has it", 16), ("fp32, as bitsandbytes does", 32)):
        before, after = bits / NF4_BLOCK, 8 / NF4_BLOCK + bits / (NF4_BLOCK * OUTER_BLOCK)
        raw.append({"scales": name, "bits_before": before, "bits_after": after, "bits_saved": before - after})
        numbers = {"Before": before, "After": after, "Saved": before - after}
        shown.append({"Scales": name} | {column: f"{value:.3f} bits" for column, value in numbers.items()})
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw))


def adam_states() -> Table:
    """Drill 3: what Adam's moments cost LLaMA-7B in fp32, in half and in 8 bits, by the textbook's rule."""
    moments = {"fp32": 8.0, "half": 4.0, "8-bit": 2 + 2 * 4 / EIGHT_BIT_BLOCK}
    rest = sum(TRAINED_PARTS.values()) - TRAINED_PARTS["Adam"]
    shown, raw = [], []
    for name, each in moments.items():
        cells: dict[str, str] = {"Adam's moments": name, "Bytes per trained parameter": f"{rest + each:.2f}"}
        row: dict[str, object] = {"moments": name, "bytes_per_trained_parameter": rest + each}
        for regime in REGIMES:
            at_rest = resident(llama("7b", regime))
            frozen = FROZEN_PART[regime] * (at_rest.total - at_rest.trainable)
            row[f"{regime}_bytes"] = total = (rest + each) * at_rest.trainable + frozen
            cells[REGIME_NAMES[regime]] = format_bytes(total)
        shown.append(cells)
        raw.append(row)
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw))


def why_fp32_moments() -> str:
    """Drill 3's argument, with the numbers of the two half formats."""
    decay, gradient = 1 - 0.999, 1e-5
    smallest = float(np.finfo(np.float16).smallest_subnormal)
    half_step = 2.0**-8 / 2
    return (
        f"fp32 is the convention because the second moment v moves by {decay:.3f} of its distance to g² a step: bf16 "
        f"rounds away relative changes below {half_step:.4f}, so v never decays; in fp16 the square of a gradient of "
        f"{gradient:g} ({gradient**2:g}) is below the smallest number there is ({smallest:.1g}): v is 0 and the step "
        "explodes. 8-bit moments work because each block has an fp32 scale and the levels are not evenly spaced."
    )


def compute_bound(runs: pd.DataFrame, hours: float = 10.0) -> str:
    """Drill 4: what checkpointing costs a run that takes `hours` when compute is the bottleneck."""
    claimed = f"The lesson's {percent(SLOWDOWN)} turn {hours:g} hours into {hours * (1 + SLOWDOWN):.1f}"
    worth = (
        "If the run already fits, the memory buys nothing and checkpointing only costs; it makes sense where the freed "
        "bytes let a run fit at all, or let a batch grow that kept the machine idle."
    )
    try:
        effects = checkpointing_effects(runs)
    except NoRunsError:
        return f"{claimed}; nothing was measured here with and without checkpointing. {worth}"
    parts = []
    for regime, pairs in effects.groupby("regime", sort=False):
        time, saved = typical(pairs["added"]), percent(float(pairs["peak_saved"].median()))
        into = "a time that was disturbed"
        if time is not None:
            more = "" if time.give is None else f" ± {hours * time.give:.1f}"
            into = f"{hours * (1 + time.middle):.1f}{more} hours"
        parts.append(f"{REGIME_NAMES[regime]} {into} for {saved} of the peak")
    return f"{claimed}. Measured here, by the median of each regime: {listing(parts)}. {worth}"
