"""The figures of measured against predicted memory: each takes runs and returns a Drawing titled by what they show."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from footprint.report.figures.bars import after, bucket_key, byte_axis, byte_unit, pair
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, PALETTE, Drawing, tell
from footprint.report.page.words import counted, listing, outcome, percent, shortened, worst
from footprint.report.reading.selection import headline, label, measured, setting, source, varying
from footprint.spec.columns import PHASES
from footprint.spec.units import format_bytes

PEAKS = ("peak_bytes_measured", "peak_bytes_predicted")
MOST_ROWS = 24
"""Rows that a bar figure of all runs can hold and still be read."""

LONGEST_SIDE_LABEL = 34
"""Characters of a run's name beyond which all names stand over their bars instead of beside them."""

MARKERS = {"full": "s", "lora": "o", "qlora": "^"}
"""One mark per regime, so that colour is never the only difference."""

_DIAMOND = {"linestyle": "", "marker": "D", "mfc": PALETTE["paper"], "mec": PALETTE["ink"]}
_DOT = {"linestyle": "", "marker": "o", "color": PALETTE["lora"], "ms": 6}


def largest(runs: pd.DataFrame, columns: tuple[str, ...]) -> float:
    """The largest value in these byte columns."""
    return float(runs[list(columns)].astype("Float64").max(axis=None))


def beside(run: pd.Series) -> str:
    """A run's outcome with the prediction's error: `483 MiB, predicted +0.1 %`."""
    if run["status"] == "ok":
        error = run["peak_relative_error"]
        return f"{outcome(run)}, predicted {percent(error, signed=True) if error else 'exactly'}"
    return f"{_briefly(run)}, predicted {format_bytes(run['peak_bytes_predicted'])}"


def _briefly(run: pd.Series) -> str:
    """A run's outcome where there is little room."""
    return {"ok": outcome(run), "oom": "out of memory"}.get(run["status"], str(run["status"]))


def regimes(runs: pd.DataFrame) -> Drawing:
    """The regimes at one setting: measured and predicted buckets, and the textbook's total."""
    rows = headline(runs)

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 0.6 + 0.72 * len(rows)))
        axes = figure.subplots()
        unit = byte_axis(axes, largest(rows, (*PEAKS, "textbook_bytes")) * (1.12 if width > NARROW else 1.25))
        for position, (_, run) in enumerate(rows.iterrows()):
            thick, thin = pair(axes, -position, run, height=0.68, unit=unit)
            if position == 0:
                for y, side in ((thick, source(run)), (thin, "predicted")):
                    end = run[list(PEAKS)].astype("Float64").max() / unit
                    after(axes, end, y, side, fontsize=8, color=PALETTE["muted"])
            (diamond,) = axes.plot(run["textbook_bytes"] / unit, thick, ms=6, zorder=3, **_DIAMOND)
            tell(diamond, f"{setting(run)}, textbook: {format_bytes(run['textbook_bytes'])}")
            name = axes.annotate(setting(run), (0, -position + 0.04), va="bottom", fontweight="bold")
            axes.annotate(beside(run), (1, 0), xycoords=name, xytext=(8, 0), textcoords="offset points", va="bottom")
        axes.set_yticks([])
        axes.set_ylim(0.24 - len(rows), 0.32)
        return figure

    shown = [f"{setting(r)} {beside(r)}, textbook {format_bytes(r['textbook_bytes'])}" for _, r in rows.iterrows()]
    alt = f"Stacked bars of peak memory by bucket, {source(rows)} over predicted, with the textbook's total: "
    key = bucket_key(Line2D([], [], label="textbook", **_DIAMOND))
    return Drawing(_regimes_finding(rows), alt + "; ".join(shown) + ".", draw, key)


def _regimes_finding(rows: pd.DataFrame) -> str:
    done = measured(rows).sort_values("peak_bytes_measured")
    if len(done) < 2:
        return f"{setting(rows.iloc[0])}: {outcome(rows.iloc[0])}"
    least, most = done.iloc[0], done.iloc[-1]
    ratio = most["peak_bytes_measured"] / least["peak_bytes_measured"]
    return f"{setting(least)} peaks at {outcome(least)}, {ratio:.1f} times less than {setting(most)}"


def buckets(runs: pd.DataFrame) -> Drawing:
    """Every run's buckets at its peak; of more than MOST_ROWS runs, those predicted worst."""
    rows = _worst_predicted(runs)
    names = [label(run, varying(runs)) for _, run in rows.iterrows()]

    def draw(width: float) -> Figure:
        at_side = width > NARROW and max(map(len, names)) <= LONGEST_SIDE_LABEL
        figure = Figure(figsize=(width, 0.55 + (0.25 if at_side else 0.38) * len(rows)))
        axes = figure.subplots()
        unit = byte_axis(axes, largest(rows, PEAKS) * (1.16 if at_side else 1.02))
        for position, (name, (_, run)) in enumerate(zip(names, rows.iterrows(), strict=True)):
            if at_side:
                thick, _ = pair(axes, 0.43 - position, run, height=0.86, unit=unit, name=name)
                after(axes, run[list(PEAKS)].astype("Float64").max() / unit, thick, _briefly(run), fontsize=8)
            else:
                pair(axes, 0.08 - position, run, height=0.5, unit=unit, name=name)
                text = f"{shortened(name, int(15 * width) - 19)}: {_briefly(run)}"
                axes.annotate(text, (0, 0.1 - position), va="bottom", fontsize=8)
        axes.set_yticks([-float(i) for i in range(len(rows))] if at_side else [], names if at_side else [])
        axes.tick_params(axis="y", labelcolor=PALETTE["ink"], labelsize=8)
        axes.set_ylim(0.5 - len(rows), 0.55)
        return figure

    alt = f"Stacked bars of {counted(len(rows), 'run')}, thick as {source(rows)} over thin as predicted: " + "; ".join(
        f"{name}: {beside(run)}" for name, (_, run) in zip(names, rows.iterrows(), strict=True)
    )
    return Drawing(_buckets_finding(runs, rows), alt + ".", draw, bucket_key())


def _worst_predicted(runs: pd.DataFrame) -> pd.DataFrame:
    if len(runs) <= MOST_ROWS:
        return runs
    return runs.loc[runs["peak_relative_error"].astype(float).abs().nlargest(MOST_ROWS).index.sort_values()]


def _buckets_finding(runs: pd.DataFrame, rows: pd.DataFrame) -> str:
    done = measured(rows)
    if not len(done):
        return "No run finished: only predictions can be shown"
    activations = (done["activations_bytes_measured"] / done["peak_bytes_measured"]).astype(float)
    low, high = percent(activations.min()), percent(activations.max())
    share = f"Activations are {low}" + (f" to {high}" if low != high else "") + " of the peak"
    return share if len(rows) == len(runs) else f"The {len(rows)} runs predicted worst: {share[0].lower()}{share[1:]}"


def accuracy(runs: pd.DataFrame) -> Drawing:
    """Every measured peak against its prediction and against the textbook, both axes logarithmic."""
    done = measured(runs)
    if not len(done):
        raise NoRunsError("No run finished, so there is no peak to hold a prediction against.")
    names = [label(run, varying(runs)) for _, run in done.iterrows()]
    prediction, textbook = worst(done["peak_relative_error"]), done["textbook_relative_error"].astype(float)

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 3.1))
        axes = figure.subplots()
        size, unit = byte_unit(largest(done, PEAKS))
        peaks = done["peak_bytes_measured"].astype(float) / size
        ends = [peaks.min() / 1.3, peaks.max() * 1.3]
        axes.plot(ends, ends, color=PALETTE["muted"], linewidth=0.8)
        for (_, run), name in zip(done.iterrows(), names, strict=True):
            here = float(run["peak_bytes_measured"]) / size
            for side, style in (("textbook", {"ms": 5, **_DIAMOND}), ("predicted", _DOT)):
                estimate = run["textbook_bytes" if side == "textbook" else "peak_bytes_predicted"]
                (mark,) = axes.plot(here, float(estimate) / size, **style)
                tell(mark, f"{name}: {outcome(run)} {source(run)}, {format_bytes(estimate)} {side}")
        axes.set(xscale="log", yscale="log", xlabel=f"{source(runs)} peak ({unit})", ylabel=f"estimated peak ({unit})")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        axes.grid()
        return figure

    hits = f"at most {percent(prediction)}" if prediction else "nothing"
    low, high = textbook.abs().min(), textbook.abs().max()
    span = percent(high) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}"
    finding = f"The textbook is off by {span}, the prediction by {hits}"
    key = (
        Line2D([], [], label="predicted", **_DOT),
        Line2D([], [], label="textbook", **_DIAMOND),
        Line2D([], [], color=PALETTE["muted"], linewidth=0.8, label="where an estimate is exact"),
    )
    alt = (
        f"Scatter of {counted(len(done), 'run')}: predictions lie on the diagonal, at most {percent(prediction)} off; "
        f"the textbook's totals lie between {percent(textbook.min(), signed=True)} and "
        f"{percent(textbook.max(), signed=True)} of what was {source(runs)}."
    )
    return Drawing(finding, alt, draw, key)


def phases(runs: pd.DataFrame) -> Drawing:
    """The three phase peaks of each headline run: bars measured, ticks predicted, the highest in colour."""
    rows = measured(headline(runs))
    if not len(rows):
        raise NoRunsError("No run that represents a regime finished, so there are no phases to show.")

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 0.5 + 0.85 * len(rows)))
        axes = figure.subplots()
        unit = byte_axis(axes, largest(rows, PEAKS) * (1.14 if width > NARROW else 1.3), "live bytes")
        places = []
        for group, (_, run) in enumerate(rows.iterrows()):
            for place, phase in enumerate(PHASES):
                y = -(group * 4.2 + place)
                places.append((y, phase))
                size, predicted = (run[f"{phase}_peak_bytes_{side}"] for side in ("measured", "predicted"))
                highest = phase == run["peak_phase_measured"]
                (bar,) = axes.barh(y, size / unit, height=0.7, color=PALETTE[run["regime"] if highest else "rule"])
                tell(
                    bar,
                    f"{setting(run)}, {phase}: {format_bytes(size)} {source(run)}, {format_bytes(predicted)} predicted",
                )
                axes.plot([predicted / unit] * 2, [y - 0.42, y + 0.42], color=PALETTE["ink"], linewidth=1.4)
                after(axes, max(size, predicted) / unit, y, format_bytes(size), fontsize=8)
            axes.annotate(setting(run), (0, 0.55 - group * 4.2), va="bottom", fontweight="bold")
        axes.set_yticks(*zip(*places, strict=True))
        axes.set_ylim(1.4 - 4.2 * len(rows), 1.6)
        return figure

    alt = "Bars of the bytes live in forward, backward and optimizer step, ticks for the prediction: " + "; ".join(
        f"{setting(run)} " + listing(f"{phase} {format_bytes(run[f'{phase}_peak_bytes_measured'])}" for phase in PHASES)
        for _, run in rows.iterrows()
    )
    return Drawing(_phases_finding(measured(runs)), alt + ".", draw)


def _phases_finding(done: pd.DataFrame) -> str:
    counts = done["peak_phase_measured"].value_counts()
    if len(counts) == 1:
        whose = f"all {len(done)} runs" if len(done) > 1 else "the one run"
        return f"The peak of {whose} is in {_phase_name(counts.index[0])}"
    where = listing(f"in {_phase_name(phase)} in {count}" for phase, count in counts.items())
    return f"The peak is {where} of {counted(len(done), 'run')}"


def _phase_name(phase: str) -> str:
    return "the optimizer step" if phase == "step" else str(phase)
