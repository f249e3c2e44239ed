"""The figures of what one decision changes: rank, adapter targets, checkpointing."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from footprint.report.figures.bars import after, bucket_key, byte_axis, byte_unit, pair
from footprint.report.figures.memory import MARKERS, PEAKS, beside, largest
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, PALETTE, WIDE, Drawing, tell
from footprint.report.page.words import change, counted, outcome, percent
from footprint.report.reading.effects import checkpointing_effects, series
from footprint.report.reading.selection import (
    CHECKPOINTING_NAMES,
    REGIME_NAMES,
    label,
    setting,
    source,
)
from footprint.report.reading.times import typical


def ranks(runs: pd.DataFrame) -> Drawing:
    """Peak against adapter rank: dots measured, lines predicted."""
    found = series(runs, "rank")
    if not found:
        raise NoRunsError("No two finished runs differ in their rank alone, so there is no curve over ranks to show.")
    every = pd.concat(found)

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 2.6))
        axes = figure.subplots()
        size, unit = byte_unit(largest(every, PEAKS))
        for rows in found:
            regime = rows["regime"].iloc[0]
            predicted, done = (rows[f"peak_bytes_{side}"].astype(float) / size for side in ("predicted", "measured"))
            axes.plot(rows["rank"].astype(int), predicted, color=PALETTE[regime], linewidth=1.2)
            for (_, run), height in zip(rows.iterrows(), done, strict=True):
                (mark,) = axes.plot(int(run["rank"]), height, MARKERS[regime], color=PALETTE[regime])
                tell(mark, f"{setting(run)}: {beside(run)}, {run['trainable_parameters_predicted']:,} trainable")
            after(axes, int(rows["rank"].iloc[-1]), predicted.iloc[-1], REGIME_NAMES[regime], color=PALETTE[regime])
        values = sorted(set(every["rank"].astype(int)))
        axes.set_xscale("log", base=2)
        axes.set_xlim(values[0] / 1.2, values[-1] * (1.35 if width > NARROW else 1.8))
        axes.set_xticks(values, [str(value) for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, 1.08 * largest(every, PEAKS) / size)
        axes.set(xlabel="rank r", ylabel=f"peak memory ({unit})")
        axes.grid(axis="y")
        return figure

    steepest = max(found, key=_growth)
    first, last = steepest.iloc[0], steepest.iloc[-1]
    times = last["rank"] / first["rank"]
    finding = (
        f"{times:g} times the rank costs {REGIME_NAMES[first['regime']]} "
        f"{percent(_growth(steepest), signed=True)} of memory"
    )
    alt = f"Peak memory over rank, dots {source(every)} on predicted lines: " + "; ".join(
        f"{setting(run)} {beside(run)}" for _, run in every.iterrows()
    )
    return Drawing(finding, alt + ".", draw)


def _growth(rows: pd.DataFrame) -> float:
    return float(rows["peak_bytes_measured"].iloc[-1] / rows["peak_bytes_measured"].iloc[0] - 1)


def targets(runs: pd.DataFrame) -> Drawing:
    """The buckets for every choice of adapted Linears."""
    found = series(runs, "targets")
    if not found:
        raise NoRunsError(
            "All adapters of a kind sit on the same Linears here, so there is no choice of targets to show; what other "
            "targets would need is predicted under “What else could be changed”."
        )
    rows = pd.concat(found)

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 0.55 + 0.5 * len(rows)))
        axes = figure.subplots()
        unit = byte_axis(axes, 1.02 * largest(rows, PEAKS))
        for position, (_, run) in enumerate(rows.iterrows()):
            pair(axes, -position, run, height=0.58, unit=unit, name=label(run, ["targets"]))
            text = f"{label(run, ['targets'])}: {beside(run) if width > NARROW else outcome(run)}"
            axes.annotate(text, (0, 0.03 - position), va="bottom", fontsize=8)
        axes.set_yticks([])
        axes.set_ylim(0.36 - len(rows), 0.35)
        return figure

    most = max(
        found, key=lambda rows: rows["activations_bytes_measured"].max() / rows["activations_bytes_measured"].min()
    )
    low, high = (most.loc[most["activations_bytes_measured"].astype(float).agg(pick)] for pick in ("idxmin", "idxmax"))
    saved = 1 - low["activations_bytes_measured"] / high["activations_bytes_measured"]
    finding = (
        f"{REGIME_NAMES[low['regime']]} adapters on {low['targets']} keep {percent(saved)} fewer activation bytes "
        f"than on {high['targets']}"
    )
    alt = "Stacked bars by adapter targets: " + "; ".join(
        f"{label(run, ['targets'])} {beside(run)}" for _, run in rows.iterrows()
    )
    return Drawing(finding, alt + ".", draw, bucket_key())


SHARES = {"activations_saved": ("activation bytes", "activations"), "peak_saved": ("peak", "weights")}
"""What checkpointing saves: its name, and the role of its colour."""


def checkpointing(runs: pd.DataFrame, claimed: float | None = None) -> Drawing:
    """Bytes that checkpointing saves, of activations and of the peak, by regime and mode; dashed, the √L claim.

    Bytes are there whether times were disturbed or not; the time a step takes longer stands beside the bars.
    """
    effects = checkpointing_effects(runs)
    groups = [(*key, pairs) for key, pairs in effects.groupby(["regime", "checkpointing"], sort=False)]

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 0.55 + 0.62 * len(groups)))
        axes = figure.subplots()
        axes.set(xlim=(0, 100), xlabel="share saved (%)", yticks=[], ylim=(0.5 - len(groups), 0.62))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        for position, (regime, mode, pairs) in enumerate(groups):
            name = f"{REGIME_NAMES[regime]}, {CHECKPOINTING_NAMES[mode]}"
            axes.annotate(f"{name}: {_time(pairs, width)}", (0, 0.3 - position), va="bottom", fontsize=8)
            for place, (column, (what, role)) in enumerate(SHARES.items()):
                share = 100 * float(pairs[column].median())
                (bar,) = axes.barh(0.15 - 0.26 * place - position, max(share, 0), height=0.24, color=PALETTE[role])
                tell(bar, f"{name}: {percent(share / 100)} of {what}, median of {counted(len(pairs), 'pair')} of runs")
        if claimed is not None:
            axes.axvline(100 * claimed, color=PALETTE["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
            note = {"fontsize": 8, "color": PALETTE["muted"], "va": "bottom", "textcoords": "offset points"}
            axes.annotate("√L claim", (100 * claimed, axes.get_ylim()[0]), xytext=(3, 1), **note)
        return figure

    key = tuple(Patch(color=PALETTE[role], label=f"{what} saved") for what, role in SHARES.values())
    return Drawing(_checkpointing_finding(effects), _checkpointing_alt(groups), draw, key)


def _time(pairs: pd.DataFrame, width: float) -> str:
    """What checkpointing adds to the time of a step, in the words that a figure has room for."""
    time = typical(pairs["added"])
    if time is not None:
        return f"{change(time.middle, time.give)} of time"
    if not pairs["step_seconds"].notna().any():
        return "no times"
    return "times disturbed, not shown" if width > NARROW else "times disturbed"


def _checkpointing_finding(effects: pd.DataFrame) -> str:
    medians = effects.groupby(["regime", "checkpointing"], sort=False)["peak_saved"].median().astype(float)
    low, high = medians.min(), medians.max()
    regimes = [medians.agg(pick)[0] for pick in ("idxmin", "idxmax")]
    if percent(low) == percent(high):
        return f"Checkpointing saves {percent(low)} of the peak"
    first, last = (REGIME_NAMES[regime] for regime in regimes)
    return f"Checkpointing saves {percent(low)} of the peak in {first}, {percent(high)} in {last}"


def _checkpointing_alt(groups: list[tuple[str, str, pd.DataFrame]]) -> str:
    parts = []
    for regime, mode, pairs in groups:
        middle = pairs[list(SHARES)].median()
        parts.append(
            f"{REGIME_NAMES[regime]} with {CHECKPOINTING_NAMES[mode]} {percent(middle['activations_saved'])} of "
            f"activation bytes and {percent(middle['peak_saved'])} of the peak, {_time(pairs, WIDE)}"
        )
    return f"Bars of what checkpointing saves, medians over pairs of runs: {'; '.join(parts)}."
