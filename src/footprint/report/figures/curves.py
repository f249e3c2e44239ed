"""Loss over the steps of fine-tuning, and loss and memory over adapter rank."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from footprint.report.figures.bars import after, byte_unit
from footprint.report.figures.labels import at_ends
from footprint.report.figures.memory import MARKERS
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, PALETTE, Drawing, tell
from footprint.report.page.words import bits, bits_apart, counted, listing, shortened
from footprint.report.reading.selection import REGIME_NAMES, SETTING_AXES
from footprint.report.reading.study import Study, curve, followed, rank_series
from footprint.spec.units import format_bytes

MOST_POINTS, LEAST_POINTS, STEPS_A_POINT = 40, 5, 8
"""Points of one training curve a panel draws, and over how many steps each is averaged where there are few."""

_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))
"""Line styles that tell settings of one regime apart."""


def thinned(steps: pd.Series) -> pd.Series:
    """A curve by step as means over stretches of equal length, each at the middle of its stretch."""
    count = min(len(steps), MOST_POINTS, max(LEAST_POINTS, len(steps) // STEPS_A_POINT))
    stretch = [place * count // len(steps) for place in range(len(steps))]
    means = pd.DataFrame({"step": steps.index, "value": steps.to_numpy()}).groupby(stretch).mean()
    return pd.Series(means["value"].to_numpy(), index=means["step"].to_numpy())


def curves(study: Study) -> Drawing:
    """Training loss (smoothed) and validation loss over the steps of the settings with the most seeds."""
    rows = followed(study)
    found = [(row, *(curve(study, row, split) for split in ("training", "validation"))) for _, row in rows.iterrows()]
    found = [entry for entry in found if len(entry[2])]
    if not found:
        raise NoRunsError("No curve of a finished fine-tuning run was kept, so none can be drawn.")

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 3.2))
        axes = figure.subplots()
        seen: dict[str, int] = {}
        ends = []
        for row, training, validation in found:
            dashes = _DASHES[seen.get(row["regime"], 0) % len(_DASHES)]
            seen[row["regime"]] = seen.get(row["regime"], 0) + 1
            _curve(axes, row, dashes, training["mean"], validation)
            text = shortened(row["name"], 30 if width > NARROW else 16)
            ends.append((validation["mean"].iloc[-1], text, {"color": PALETTE[row["regime"]]}))
        axes.set_xlim(0, max(validation.index.max() for _, _, validation in found))
        axes.set(xlabel="step", ylabel="loss (bits per byte)")
        axes.grid(axis="y")
        at_ends(axes, ends)
        return figure

    return Drawing(_curves_finding(found), _curves_alt(found), draw, _curves_key(found))


def _curve(axes: Axes, row: pd.Series, dashes: object, training: pd.Series, validation: pd.DataFrame) -> None:
    regime, name = row["regime"], row["name"]
    colour = PALETTE[regime]
    smooth = thinned(training)
    axes.plot(smooth.index, smooth, color=colour, linewidth=0.7, alpha=0.65, linestyle=dashes)
    if (validation["max"] > validation["min"]).any():
        axes.fill_between(validation.index, validation["min"], validation["max"], color=colour, alpha=0.18, linewidth=0)
    few = validation["mean"].iloc[:: max(1, len(validation) // 40)]
    points = pd.concat([few, validation["mean"].iloc[-1:]])
    points = points[~points.index.duplicated()]
    style = {"color": colour, "ms": 4, "mec": PALETTE["paper"], "mew": 0.4, "clip_on": False, "zorder": 3}
    axes.plot(points.index, points, linestyle=dashes, linewidth=1.3, **style)
    for step, loss in points.items():
        (mark,) = axes.plot(step, loss, MARKERS[regime], **style)
        tell(mark, f"{name}, step {step:,}: {bits(loss)} bits per byte")


Curves = list[tuple[pd.Series, pd.DataFrame, pd.DataFrame]]
"""(setting, training, validation) of every setting drawn."""


def _curves_key(found: Curves) -> tuple[Line2D, ...]:
    muted = PALETTE["muted"]
    key = [Line2D([], [], color=muted, marker="o", ms=4, linewidth=1.3, label="validation")]
    if any(len(training) for _, training, _ in found):
        key.append(Line2D([], [], color=muted, linewidth=0.7, label="training, smoothed"))
    if any(row["finished"] > 1 for row, _, _ in found):
        key.append(Line2D([], [], color=muted, linewidth=5, alpha=0.3, label="range of seeds"))
    return tuple(key)


def _curves_finding(found: Curves) -> str:
    """What validation loss does from the first step to the last."""
    ends = [(row["name"], rows["mean"].iloc[0], rows["mean"].iloc[-1]) for row, _, rows in found]
    steps = max(rows.index.max() for _, _, rows in found)
    start, parts = ends[0][1], [f"{bits(last)} with {name}" for name, _, last in ends]
    if all(bits(first) == bits(start) for _, first, _ in ends):
        return f"{counted(int(steps), 'step')} take validation loss from {bits(start)} to {listing(parts)}"
    parts = [f"{bits(first)} to {bits(last)} with {name}" for name, first, last in ends]
    return f"{counted(int(steps), 'step')} take validation loss from {listing(parts)}"


def _curves_alt(found: Curves) -> str:
    parts = []
    for row, training, rows in found:
        part = f"{row['name']} ({counted(int(row['finished']), 'seed')}) from {bits(rows['mean'].iloc[0])} to "
        part += f"{bits(rows['mean'].iloc[-1])}, lowest {bits(rows['mean'].min())} at step {rows['mean'].idxmin()}"
        if len(training):
            part += f"; its training loss ends near {bits(thinned(training['mean']).iloc[-1])}"
        parts.append(part)
    return f"Curves of validation and training loss in bits per byte over steps: {'; '.join(parts)}."


def ranks(study: Study) -> Drawing:
    """Final loss and peak memory over adapter rank, full fine-tuning as a line across."""
    found = rank_series(study)
    if not found:
        raise NoRunsError(
            "No two settings of the quality study differ in rank alone, so rank cannot be judged by loss."
        )
    full = _full_alike(study, found[0])
    every = pd.concat([*found, *([full.to_frame().T] if full is not None else [])])
    size, unit = byte_unit(float(every["peak_bytes"].max()))

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 4.4))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.25, 1))
        for axes, value, unit_size in ((upper, "loss", 1), (lower, "peak_bytes", size)):
            _over_ranks(axes, found, full, value, unit_size)
        upper.set_ylabel("validation loss\n(bits per byte)")
        lower.set_ylabel(f"peak memory ({unit})")
        upper.margins(y=0.12)
        lower.set_ylim(0, 1.1 * float(every["peak_bytes"].max()) / size)
        _rank_axis(lower, sorted({int(rank) for rows in found for rank in rows["rank"]}))
        for axes, value, unit_size in ((upper, "loss", 1), (lower, "peak_bytes", size)):
            at_ends(axes, _rank_ends(found, full, value, unit_size))
        return figure

    return Drawing(_ranks_finding(study, found), _ranks_alt(found, full), draw)


def _full_alike(study: Study, series: pd.DataFrame) -> pd.Series | None:
    """Full fine-tuning in the setting of a series of ranks, if it finished."""
    done = study.finished
    same = (done[list(SETTING_AXES)] == series.iloc[0][list(SETTING_AXES)]).all(axis=1) & (done["regime"] == "full")
    return done[same.to_numpy()].iloc[0] if same.any() else None


def _over_ranks(axes: Axes, found: list[pd.DataFrame], full: pd.Series | None, value: str, size: int) -> None:
    last = max(rows["rank"].iloc[-1] for rows in found)
    for rows in found:
        regime, ranks_ = rows["regime"].iloc[0], rows["rank"].astype(int)
        heights = rows[value].astype(float) / size
        style = {"color": PALETTE[regime], "mec": PALETTE["paper"], "mew": 0.4}
        axes.plot(ranks_, heights, linestyle="-", linewidth=1.3, **style)
        for rank, height, (_, row) in zip(ranks_, heights, rows.iterrows(), strict=True):
            (mark,) = axes.plot(rank, height, MARKERS[regime], ms=6, **style)
            tell(mark, f"{row['name']}: {bits(row['loss'])} bits per byte, {format_bytes(row['peak_bytes'])}")
        if value == "loss":
            for rank, (_, row) in zip(ranks_, rows.iterrows(), strict=True):
                if row["finished"] > 1:
                    ends = [row["loss_low"], row["loss_high"]]
                    axes.plot([rank] * 2, ends, "_-", color=PALETTE[regime], ms=6, linewidth=0.9)
        if ranks_.iloc[-1] < last:
            after(axes, ranks_.iloc[-1], heights.iloc[-1], REGIME_NAMES[regime], color=PALETTE[regime], fontsize=8)
    if full is not None:
        if value == "loss" and full["finished"] > 1:
            axes.axhspan(full["loss_low"], full["loss_high"], color=PALETTE["full"], alpha=0.15, linewidth=0)
        axes.axhline(float(full[value]) / size, color=PALETTE["full"], linewidth=1.1, linestyle=(0, (5, 2)))
    axes.grid(axis="y")


def _rank_axis(axes: Axes, values: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(values[0] / 1.2, values[-1] * 1.1)
    sparse = values if len(values) <= 8 else values[:: -(-len(values) // 8)]
    axes.set_xticks(sparse, [str(value) for value in sparse])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("rank r")


def _rank_ends(
    found: list[pd.DataFrame], full: pd.Series | None, value: str, size: int
) -> list[tuple[float, str, dict]]:
    """The names at the right edge: of the series that reach the highest rank, and of full fine-tuning."""
    last = max(rows["rank"].iloc[-1] for rows in found)
    rows = [rows.iloc[-1] for rows in found if rows["rank"].iloc[-1] == last] + ([full] if full is not None else [])
    return [(float(row[value]) / size, REGIME_NAMES[row["regime"]], {"color": PALETTE[row["regime"]]}) for row in rows]


def _ranks_finding(study: Study, found: list[pd.DataFrame]) -> str:
    """What the whole span of ranks changes, in loss and in memory."""
    parts = []
    for rows in found:
        first, last = rows.iloc[0], rows.iloc[-1]
        change, more = last["loss"] - first["loss"], int(last["peak_bytes"] - first["peak_bytes"])
        text = f"{REGIME_NAMES[first['regime']]} by {bits_apart(change, signed=True)}"
        memory = f"{'+' if more >= 0 else '−'}{format_bytes(abs(more))}"
        parts.append(f"{text} for {memory}")
    low, high = (found[0]["rank"].iloc[end] for end in (0, -1))
    same = all((rows["rank"].iloc[0], rows["rank"].iloc[-1]) == (low, high) for rows in found)
    span = f"Rank {high} instead of {low}" if same else "The highest rank instead of the lowest"
    sentence = f"{span} changes the loss of {listing(parts)}"
    widest, chance = (
        max(float(rows["loss"].max() - rows["loss"].min()) for rows in found),
        study.by_chance(pd.concat(found)),
    )
    return sentence if chance is None or widest > chance else f"{sentence}: no more than seeds differ"


def _ranks_alt(found: list[pd.DataFrame], full: pd.Series | None) -> str:
    rows = [row for series in found for _, row in series.iterrows()] + ([full] if full is not None else [])
    shown = [f"{row['name']} {bits(row['loss'])} bits per byte at {format_bytes(row['peak_bytes'])}" for row in rows]
    return f"Two panels over adapter rank, validation loss above and peak memory below: {'; '.join(shown)}."
