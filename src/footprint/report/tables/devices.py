"""Results of other devices beside this one's: the same cells of the grid, and how far apart they are."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from footprint.errors import FootprintError
from footprint.report.page.empty import NoRunsError
from footprint.report.page.table import Table, telling
from footprint.report.page.words import listing, outcome, percent
from footprint.report.reading.results import EXPERIMENT
from footprint.report.reading.selection import alike, headline, label, load, measured, setting, source, varying
from footprint.spec.run import AXES
from footprint.spec.units import format_bytes

_COMPARED = ["status", "oom_phase", "device_name", "step_seconds", "peak_relative_error"]
_BUCKETS = [f"{name}_bytes_measured" for name in ("weights", "gradients", "optimizer", "activations", "peak")]


def others(reference: Path | None, directory: Path, runs: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The runs of other devices that share a setting with `runs`, by the name of the folder that holds their tables.

    These are the folders of `reference` and, of one name before them, those beside `directory`: the same experiment on
    other devices and cards. Second, a sentence for each folder beside that is not whole: it may be under way.
    """
    kept = reference.glob("**/comparison.csv") if reference else ()
    found = {
        str(path.parent.relative_to(reference)): load(path.parent)
        for path in sorted(kept)
        if _is_other(path, directory)
    }
    unfinished = []
    for path in sorted(directory.parent.glob("*/comparison.csv")) if (directory / EXPERIMENT).exists() else ():
        if _is_other(path, directory) and (path.parent / EXPERIMENT).exists():
            try:
                found[path.parent.name] = load(path.parent)
            except FootprintError as error:
                unfinished.append(str(error))
    return {name: other for name, other in found.items() if len(runs.merge(other, on=list(AXES)))}, unfinished


def _is_other(table: Path, directory: Path) -> bool:
    return table.parent.resolve() != directory.resolve()


def measured_on_a_gpu(frames: Iterable[pd.DataFrame]) -> bool:
    """Whether any of these runs was measured by CUDA's recorder."""
    return any(frame["host_driver"].astype(str).str.startswith("NVIDIA").any() for frame in frames)


def same_kind(runs: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether both were measured on devices of one name."""
    return set(runs["device_name"]) == set(other["device_name"])


def beside(runs: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Runs of both devices, joined on the axes (columns of the other end in `_other`); raises NoRunsError if none."""
    columns = [*AXES, *_COMPARED, *_BUCKETS]
    joined = runs[columns].merge(other[columns], on=list(AXES), suffixes=("", "_other"))
    if not len(joined):
        raise NoRunsError("It has none of the settings of this experiment.")
    return joined


def plain(name: str) -> str:
    """The name of a device, without that its runs were rehearsed, which is said beside it."""
    return name.replace("-rehearsed", "")


def title(runs: pd.DataFrame, others: dict[str, pd.DataFrame]) -> str:
    """The section's title: how far the peaks of the other devices lie from those here."""
    apart = []
    for other in others.values():
        joined = measured(runs).merge(measured(other), on=list(AXES), suffixes=("", "_other"))
        apart += list(joined["peak_bytes_measured_other"] / joined["peak_bytes_measured"] - 1)
    if not apart:
        return "Other devices"
    low, high = percent(min(apart), signed=True), percent(max(apart), signed=True)
    return f"Other devices: peaks of the same runs lie {low if low == high else f'{low} to {high}'} from those here"


def side_by_side(device: str, runs: pd.DataFrame, others: dict[str, pd.DataFrame]) -> Table:
    """The peak of each headline run on every device that has it, a row for each device; the last is the textbook's."""
    rows = {setting(run): run for _, run in headline(runs).iterrows()}
    shown, raw = [], []
    for name, frame in {device: runs, **others}.items():
        there = {regime: alike(frame, run, but=[]) for regime, run in rows.items()}
        found = {regime: there[regime].iloc[0] if len(there[regime]) else None for regime in rows}
        where = {"Device": plain(name), "Source": source(frame)}
        shown.append(where | {regime: "–" if one is None else outcome(one) for regime, one in found.items()})
        peaks = {regime: None if one is None else one["peak_bytes_measured"] for regime, one in found.items()}
        raw.append(where | {f"{regime}, bytes": peak for regime, peak in peaks.items()})
    where = {"Device": "any", "Source": "textbook"}
    shown.append(where | {regime: format_bytes(run["textbook_bytes"]) for regime, run in rows.items()})
    raw.append(where | {f"{regime}, bytes": run["textbook_bytes"] for regime, run in rows.items()})
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw), words=("Device", "Source"))


def table(runs: pd.DataFrame, other: pd.DataFrame) -> Table:
    """The peaks of both devices for every setting both have run."""
    raw = beside(runs, other)
    axes = varying(raw)
    shown = []
    for _, run in raw.iterrows():
        there = run.filter(like="_other").rename(lambda name: name.removesuffix("_other"))
        both = run["status"] == there["status"] == "ok"
        ratio = there["peak_bytes_measured"] / run["peak_bytes_measured"] - 1 if both else None
        shown.append(
            {
                "Setting": label(run, axes),
                "Here": outcome(run),
                "There": outcome(there),
                "Difference": percent(ratio, signed=True) if both else "–",
                "Error here": _error(run),
                "Error there": _error(there),
            }
        )
    return Table(shown=telling(pd.DataFrame(shown), "Error here", "Error there"), raw=raw)


def _error(run: pd.Series) -> str:
    return "–" if pd.isna(run["peak_relative_error"]) else percent(run["peak_relative_error"], signed=True)


def agreement(runs: pd.DataFrame, other: pd.DataFrame) -> str:
    """Which buckets the devices agree on over the runs that finished on both, and how far apart the others are."""
    joined = beside(measured(runs), measured(other))
    apart = {}
    for bucket in ("weights", "gradients", "optimizer", "activations"):
        here, there = (joined[f"{bucket}_bytes_measured{side}"].astype(float) for side in ("", "_other"))
        apart[bucket] = float(((there - here) / joined["peak_bytes_measured"].astype(float)).abs().max())
    same = [bucket for bucket, gap in apart.items() if gap == 0]
    parts = [f"{listing(same)} agree to the byte"] if same else []
    parts += [f"{bucket} differ by at most {percent(gap)} of the peak" for bucket, gap in apart.items() if gap]
    return "; ".join(parts)
