"""Which runs a section of the report shows and what they are called: pure pandas, for the grid of any experiment."""

import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from footprint.errors import FootprintError
from footprint.report.page.words import counted
from footprint.report.reading.times import held_against_likes
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.columns import COMPARISON, MEASUREMENTS, SHARED, SIDES
from footprint.spec.model import TARGETS
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import AXES, AXIS_DEFAULTS, REGIMES
from footprint.tables.rows import read_table

REGIME_NAMES = {"full": "Full FT", "lora": "LoRA", "qlora": "QLoRA"}
CHECKPOINTING_NAMES = {"none": "no checkpoints", "block": "block checkpoints", "sqrt": "√L checkpoints"}
ADAPTER_AXES = ("regime", "rank", "targets", "quantization")
"""What changes together when the regime does; the other axes are the setting a comparison of regimes holds fixed."""

SETTING_AXES = tuple(axis for axis in AXES if axis not in ADAPTER_AXES)
NAMED_AXES = tuple(axis for axis in AXES if axis not in ("regime", "rank"))
"""Axes a label names one by one; regime and rank are in `setting` already."""

_WHOLE = tuple(name for name in SHARED if name.endswith(("_bytes", "_parameters")))


def load(directory: Path, stack: str = "minigpt") -> pd.DataFrame:
    """The runs of one experiment on one device and stack: `comparison.csv` and what else `measurements.csv` knows.

    There may be none of a stack. Raises FootprintError when a table is missing, lacks a column, is empty, or the two
    hold different runs.
    """
    compared = _read(directory / "comparison.csv", COMPARISON)
    rest = _read(directory / "measurements.csv", MEASUREMENTS).drop(columns=[*SHARED, "status"])
    for name in (f"{name}_{side}" for name in _WHOLE for side in SIDES):
        compared[name] = compared[name].astype("Int64")
    runs = compared.merge(rest, on=list(AXES), how="outer", indicator=True)
    same = (runs.pop("_merge") == "both").all() and len(runs) == len(compared) == len(rest)
    if not len(runs) or not same:
        raise FootprintError(f"{directory}: comparison.csv and measurements.csv hold different runs; gather them again")
    return held_against_likes(in_reading_order(runs[(runs["stack"] == stack).to_numpy()]))


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    frame = read_table(path)
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise FootprintError(f"{path}: lacks the columns {', '.join(missing)}; gather the runs again")
    return frame


def in_reading_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Sorted as people list them: full before LoRA before QLoRA, no checkpointing before some, small before large."""
    orders = {"regime": REGIMES, "targets": TARGETS, "checkpointing": CHECKPOINTING, "precision": tuple(PRECISIONS)}

    def position(column: pd.Series) -> pd.Series:
        order = orders.get(column.name)
        return column if order is None else column.map(dict(zip(order, range(len(order)), strict=True)))

    by = ["model", "regime", *(axis for axis in AXES if axis not in ("model", "regime"))]
    return runs.sort_values(by, key=position, kind="stable", ignore_index=True)


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that finished and so have peaks."""
    return runs[(runs["status"] == "ok").to_numpy()]


def source(runs: pd.DataFrame | pd.Series) -> str:
    """The word for where the peaks of some runs, or of one, are from: `measured` or `rehearsed`."""
    found = runs["source"]
    return found if isinstance(found, str) else " or ".join(sorted(set(found)))


def setting(run: pd.Series) -> str:
    """The regime and its rank, as the seed's table names them: `LoRA r=8`."""
    name = REGIME_NAMES.get(run["regime"], str(run["regime"]))
    return name if run["regime"] == "full" else f"{name} r={run['rank']}"


def axis_text(axis: str, value: object) -> str:
    """One axis value in words."""
    if axis == "checkpointing":
        return CHECKPOINTING_NAMES.get(value, str(value))
    if axis == "gpus":
        return counted(int(value), "GPU")
    words = {"batch": "batch {}", "seq": "{} tokens", "targets": "adapters on {}", "precision": "{} precision"}
    return words.get(axis, "{}").format(value)


def varying(runs: pd.DataFrame) -> list[str]:
    """Axes beyond regime and rank that tell these runs apart (a value that does not apply is no difference)."""
    return [axis for axis in NAMED_AXES if len(_values(runs, axis)) > 1]


def _values(runs: pd.DataFrame, axis: str) -> list:
    """Sorted values of an axis; `none` counts only where it is a choice, not where the axis does not apply."""
    values = set(runs[axis])
    return sorted(values if axis == "checkpointing" else values - {"none"})


def label(run: pd.Series, axes: Iterable[str]) -> str:
    """A run's name among runs that differ in `axes`: `LoRA r=8, block checkpoints`."""
    applicable = (axis for axis in axes if axis == "checkpointing" or run[axis] != "none")
    brief = (run[axis] if axis in ("targets", "precision") else axis_text(axis, run[axis]) for axis in applicable)
    return ", ".join([setting(run), *brief])


def in_common(runs: pd.DataFrame, axes: Iterable[str] = NAMED_AXES) -> str:
    """What all these runs share, in words: `minigpt-85m, mixed precision, adamw, batch 4, 256 tokens`."""
    values = {axis: _values(runs, axis) for axis in axes}
    values.pop("stack", None)  # a page's runs are of this project's own loop, but for what it says of Transformers
    if values.get("gpus") == [AXIS_DEFAULTS["gpus"]]:
        values.pop("gpus")  # said only where there are several
    return ", ".join(axis_text(axis, found[0]) for axis, found in values.items() if len(found) == 1)


def headline(runs: pd.DataFrame) -> pd.DataFrame:
    """One run per regime, alike in everything else: the rows of the seed's table.

    Of all settings the one is taken that covers most regimes, then most finished runs, then the largest model, then
    most default values; within it the rank nearest 8 on all Linears.
    """
    groups = [group for _, group in runs.groupby(list(SETTING_AXES), sort=False, dropna=False)]
    best = max(groups, key=_worth_showing)
    rows = [most_usual(best[best["regime"] == regime]) for regime in REGIMES if (best["regime"] == regime).any()]
    return pd.DataFrame(rows).astype(runs.dtypes)


def _worth_showing(group: pd.DataFrame) -> tuple[int, int, int, int]:
    size = int(group["total_parameters_predicted"].max())
    return group["regime"].nunique(), measured(group)["regime"].nunique(), size, usual_values(group)


def usual_values(group: pd.DataFrame) -> int:
    """How many axes of a setting (those all runs of `group` share) have their default value."""
    first = group.iloc[0]
    return sum(first[axis] == AXIS_DEFAULTS[axis] for axis in SETTING_AXES if axis in AXIS_DEFAULTS)


def most_usual(runs: pd.DataFrame) -> pd.Series:
    """Of runs that differ in their adapters, the one nearest the defaults: on all Linears, rank 8, NF4."""

    def distance(run: pd.Series) -> tuple[bool, float, bool, bool]:
        far = abs(math.log2(run["rank"] / AXIS_DEFAULTS["rank"])) if run["rank"] else 0.0
        unlike = [run[axis] not in (AXIS_DEFAULTS[axis], "none") for axis in ("targets", "quantization")]
        return unlike[0], far, unlike[1], run["status"] != "ok"

    return min((run for _, run in runs.iterrows()), key=distance)


def alike(runs: pd.DataFrame, run: pd.Series, *, but: Iterable[str]) -> pd.DataFrame:
    """The runs that agree with `run` in every axis but those named."""
    same = [axis for axis in AXES if axis not in set(but)]
    return runs[(runs[same] == run[same]).all(axis=1).to_numpy()]


def against_baseline(runs: pd.DataFrame, axis: str, baseline: object) -> pd.DataFrame:
    """Every finished run beside the one that has `baseline` on `axis` and is else equal (`<name>_baseline`)."""
    finished = measured(runs)
    others = [name for name in AXES if name != axis]
    base = finished[(finished[axis] == baseline).to_numpy()]
    changed = finished[(finished[axis] != baseline).to_numpy()]
    return changed.merge(base.drop(columns=axis), on=others, suffixes=("", "_baseline"))


def one_change(runs: pd.DataFrame, start: pd.Series, regimes: pd.DataFrame) -> pd.DataFrame:
    """Finished runs one decision away from `start`, smallest peak first, with the decision in the column `change`.

    A decision is another value of one axis, or another regime (to its row in `regimes`).
    """
    found = []
    for axis in AXES:
        if axis not in ("model", "regime"):
            near = alike(measured(runs), start, but=[axis])
            near = near[(near[axis] != start[axis]).to_numpy()]
            words = [f"rank {value}" if axis == "rank" else axis_text(axis, value) for value in near[axis]]
            found.append(near.assign(change=words))
    other = measured(regimes)
    other = other[(other["regime"] != start["regime"]).to_numpy()]
    found.append(other.assign(change=[setting(run) for _, run in other.iterrows()]))
    return pd.concat(found).sort_values("peak_bytes_measured", kind="stable", ignore_index=True)
