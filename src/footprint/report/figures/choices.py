"""The figures of what one decision changes: rank, adapter targets, checkpointing; and what fits on which card."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from footprint.report.figures.bars import after, bucket_key, byte_axis, byte_unit, pair
from footprint.report.figures.memory import MARKERS, PEAKS, beside, largest
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, PALETTE, Drawing
from footprint.report.page.words import counted, listing, outcome, percent
from footprint.report.reading.effects import checkpointing_effects, series, set_aside
from footprint.report.reading.selection import (
    CHECKPOINTING_NAMES,
    REGIME_NAMES,
    label,
    setting,
    source,
)


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
            axes.plot(rows["rank"].astype(int), done, MARKERS[regime], color=PALETTE[regime])
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
            "targets would need is among the predictions at the top."
        )
    rows = pd.concat(found)

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 0.55 + 0.5 * len(rows)))
        axes = figure.subplots()
        unit = byte_axis(axes, 1.02 * largest(rows, PEAKS))
        for position, (_, run) in enumerate(rows.iterrows()):
            pair(axes, -position, run, height=0.58, unit=unit)
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


def checkpointing(runs: pd.DataFrame, claimed_saving: float | None, claimed_slowdown: float) -> Drawing:
    """Activation bytes saved against seconds paid, one mark per pair of runs; dashed, the claims (both ratios)."""
    every = checkpointing_effects(runs)
    effects = every[every["time_added"].notna().to_numpy()]
    if not len(effects):
        raise NoRunsError(set_aside(every) or "A rehearsal has no times to set beside what is saved.")
    modes = [mode for mode in CHECKPOINTING_NAMES if mode in set(effects["checkpointing"])]
    # A run disturbed by its machine would squeeze all others together: it stands at the edge, with its value.
    edge = max(2 * claimed_slowdown, 2 * effects["time_added"].median(), 1.1 * effects["time_added"].quantile(0.75))

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 2.9))
        axes = figure.subplots()
        for _, pair_ in effects.iterrows():
            regime, filled = pair_["regime"], pair_["checkpointing"] == modes[0]
            colours = {"mec": PALETTE[regime], "mfc": PALETTE[regime if filled else "paper"]}
            x, y = min(pair_["time_added"], edge), pair_["activations_saved"]
            axes.plot(100 * x, 100 * y, MARKERS[regime], **colours, ms=7, clip_on=False, zorder=3)
            if pair_["time_added"] > edge:
                beyond = percent(pair_["time_added"], signed=True) + " →"
                axes.annotate(beyond, (100 * x, 100 * y), xytext=(-6, -10), textcoords="offset points", ha="right")
        _claims(axes, claimed_saving, claimed_slowdown)
        axes.set_xlim(min(0, 110 * effects["time_added"].min()), 100 * edge)
        axes.set_ylim(min(0, 110 * effects["activations_saved"].min()), 100)
        axes.set(xlabel="step time added (%)", ylabel="activation bytes saved (%)")
        axes.grid()
        return figure

    key = [_mark(REGIME_NAMES[regime], MARKERS[regime], regime, True) for regime in dict.fromkeys(effects["regime"])]
    key += [_mark(CHECKPOINTING_NAMES[mode], "o", "full", mode == modes[0]) for mode in modes]
    typical = effects.groupby("checkpointing")[["activations_saved", "time_added"]].median()
    finding = listing(
        f"{CHECKPOINTING_NAMES[mode]} save {percent(typical.loc[mode, 'activations_saved'])} of activations for "
        f"{percent(typical.loc[mode, 'time_added'], signed=True)} of time"
        for mode in modes
    )
    return Drawing(finding[0].upper() + finding[1:], _checkpointing_alt(effects), draw, tuple(key))


def _claims(axes: Axes, saving: float | None, slowdown: float) -> None:
    dashed = {"color": PALETTE["muted"], "linewidth": 0.9, "linestyle": (0, (4, 3)), "zorder": 1}
    note = {"fontsize": 8, "color": PALETTE["muted"], "textcoords": "offset points"}
    axes.axvline(100 * slowdown, **dashed)
    axes.annotate(f"{percent(slowdown)} claim", (100 * slowdown, 0), xytext=(4, 4), **note)
    if saving is not None:
        axes.axhline(100 * saving, **dashed)
        axes.annotate("√L claim", (0, 100 * saving), xycoords=("axes fraction", "data"), xytext=(4, 3), **note)


def _mark(name: str, marker: str, role: str, filled: bool) -> Line2D:
    colour = PALETTE[role]
    return Line2D(
        [], [], linestyle="", marker=marker, mec=colour, mfc=colour if filled else PALETTE["paper"], label=name
    )


def _checkpointing_alt(effects: pd.DataFrame) -> str:
    parts = []
    for (regime, mode), rows in effects.groupby(["regime", "checkpointing"], sort=False):
        middle = rows[["activations_saved", "time_added"]].median()
        parts.append(
            f"{REGIME_NAMES[regime]} with {CHECKPOINTING_NAMES[mode]} saves {percent(middle['activations_saved'])} "
            f"of activations for {percent(middle['time_added'], signed=True)} of step time"
        )
    pairs = counted(len(effects), "pair")
    return f"Scatter of {pairs} of runs with and without checkpointing; medians: {'; '.join(parts)}."
