"""The quality study as the report reads it: what each setting reaches after fine-tuning, over its seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from footprint.errors import FootprintError
from footprint.experiment.resolved import read_experiment
from footprint.files import unreadable
from footprint.report.reading import times
from footprint.report.reading.results import EXPERIMENT
from footprint.report.reading.selection import SETTING_AXES, in_reading_order, label, most_usual, usual_values, varying
from footprint.spec.columns import BASES, CURVES, INTEGERS, QUALITY
from footprint.spec.run import AXES, REGIMES

SECONDS = ("forward_seconds", "backward_seconds", "optimizer_seconds")
"""The parts of a step, each the median of its steps; `step_seconds` is the median of whole steps."""

_MEANS = ("base_bits_per_byte", "training_bits_per_byte")
_CLOCKED = (*SECONDS, "tokens_per_second", "training_seconds")
_HIGHEST = ("peak_bytes", "steps")

COLUMNS = {"quality": QUALITY, "curves": CURVES, "bases": BASES}
"""The three tables of a study by name, and their columns."""

MOST_CURVES = 6
"""Settings whose curves one panel can hold and still be read."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The three tables of a quality study."""

    runs: pd.DataFrame
    """One row per setting and seed, settings in reading order."""
    curves: pd.DataFrame
    """Bits per byte over the steps, one row per setting, seed, split and step."""
    bases: pd.DataFrame
    """The base as it is stored: one row per model and storage."""

    @cached_property
    def settings(self) -> pd.DataFrame:
        """One row per setting: its `name`, and over the seeds that finished its loss, peak and times.

        `loss` is the mean validation loss after training in bits per byte, `loss_low` and `loss_high` its extremes,
        `losses` those by seed. `step` is the time of a step (Time, or None where every seed was disturbed) and seconds
        are medians, both over the seeds that were not disturbed. `seeds` counts all runs, `finished` those with a
        loss; `status` is `ok` when there is one.
        """
        groups = self.runs.groupby(list(AXES), sort=False)
        rows = pd.DataFrame([dict(zip(AXES, axes, strict=True)) | _over_seeds(seeds) for axes, seeds in groups])
        axes = varying(rows)
        rows["name"] = [named(row, axes) for _, row in rows.iterrows()]
        return rows

    @property
    def finished(self) -> pd.DataFrame:
        """The settings that have a loss."""
        return self.settings[(self.settings["finished"] > 0).to_numpy()]

    @property
    def noise(self) -> float | None:
        """The widest range of final losses over the seeds of one setting; None where no setting has two."""
        return _widest(self.finished)

    @property
    def dominated(self) -> pd.Series:
        """Whether the memory of a finished setting buys no lower loss, beyond what seeds alone would change."""
        return dominated(self.finished, lambda *pair: self.by_chance(pd.DataFrame(pair)) or 0.0)

    def by_chance(self, settings: pd.DataFrame) -> float | None:
        """How far losses of these settings may lie apart by their seeds alone: `noise` among them, else anywhere."""
        among = _widest(settings)
        return self.noise if among is None else among


def _widest(settings: pd.DataFrame) -> float | None:
    repeated = settings[(settings["finished"] > 1).to_numpy()]
    return float((repeated["loss_high"] - repeated["loss_low"]).max()) if len(repeated) else None


def load(directory: Path) -> Study | None:
    """The study whose tables lie in `directory`; None where the experiment has none.

    Raises FootprintError when only some of the tables are there, when one lacks a column, or when it repeats a run.
    """
    described = directory / EXPERIMENT
    if described.exists() and read_experiment(described).study is None:
        return None  # tables of an earlier configuration may still lie there
    paths = {name: directory / f"{name}.csv" for name in COLUMNS}
    missing = [path.name for path in paths.values() if not path.exists()]
    if len(missing) == len(paths):
        return None
    if missing:
        raise FootprintError(f"{directory}: the quality study lacks {', '.join(missing)}; gather its runs again")
    tables = {name: _read(path, COLUMNS[name]) for name, path in paths.items()}
    runs = tables["quality"]
    if not len(runs) or runs.duplicated([*AXES, "seed"]).any():
        raise FootprintError(f"{paths['quality']}: no runs, or one twice; gather the study's runs again")
    return Study(runs=times.held_against_likes(in_reading_order(runs)), curves=tables["curves"], bases=tables["bases"])


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"base": str})
    except (OSError, ValueError) as error:
        raise unreadable(path, "table", error) from None
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise FootprintError(f"{path}: lacks the columns {', '.join(missing)}; gather the study's runs again")
    whole = {name for name in frame.columns if name.endswith("_bytes") or name in INTEGERS}
    return frame.astype(dict.fromkeys(whole, "Int64"))


def _over_seeds(seeds: pd.DataFrame) -> dict[str, object]:
    """What the runs of one setting have in common; a peak that differs between them counts as its highest."""
    done = seeds[(seeds["status"] == "ok").to_numpy()]
    losses = done["validation_bits_per_byte"].astype(float)
    statuses = seeds["status"].value_counts()
    clocked = done[np.array([times.step_of(run) is not None for _, run in done.iterrows()], dtype=bool)]
    return (
        {"seeds": len(seeds), "finished": len(done), "status": "ok" if len(done) else statuses.index[0]}
        | {"failed": {status: int(count) for status, count in statuses.items() if status != "ok"}}
        | {"losses": dict(zip(done["seed"], losses, strict=True))}
        | {"peak_predicted_bytes": seeds["peak_predicted_bytes"].max()}
        | {"loss": losses.mean(), "loss_low": losses.min(), "loss_high": losses.max()}
        | {name: done[name].max() for name in _HIGHEST}
        | {name: done[name].astype(float).mean() for name in _MEANS}
        | {"step": times.typical([times.step_of(run) for _, run in clocked.iterrows()])}
        | {name: clocked[name].astype(float).median() for name in _CLOCKED}
        | {"learning_rate": done["learning_rate"].astype(float).median()}
    )


def named(run: pd.Series, axes: list[str]) -> str:
    """A setting's name among settings that differ in `axes`; having no checkpoints goes without saying."""
    return label(run, [axis for axis in axes if (axis, run[axis]) != ("checkpointing", "none")])


def headline(study: Study) -> pd.DataFrame:
    """One finished setting per regime, alike in everything else, of those with most seeds; may be empty.

    Their names tell only what they differ in among themselves.
    """
    groups = [group for _, group in study.finished.groupby(list(SETTING_AXES), sort=False)]
    if not groups:
        return study.finished
    best = max(groups, key=lambda group: (group["regime"].nunique(), group["finished"].sum(), usual_values(group)))
    rows = []
    for regime in REGIMES:
        same = best[(best["regime"] == regime).to_numpy()]
        if len(same):
            rows.append(most_usual(same[(same["finished"] == same["finished"].max()).to_numpy()]))
    found = pd.DataFrame(rows).astype(best.dtypes)
    axes = varying(found)
    return found.assign(name=[named(row, axes) for _, row in found.iterrows()])


def no_chance(one: pd.Series, other: pd.Series) -> float:
    """Two losses count as different however close they lie."""
    return 0.0


def followed(study: Study) -> pd.DataFrame:
    """The settings whose curves are shown: those with the most seeds, or one per regime where that says nothing."""
    done = study.finished
    most = done[(done["finished"] == done["finished"].max()).to_numpy()]
    return most if 1 < len(most) <= MOST_CURVES and most["finished"].iloc[0] > 1 else headline(study)


def dominated(settings: pd.DataFrame, chance: Callable[[pd.Series, pd.Series], float] = no_chance) -> pd.Series:
    """Whether a setting's memory buys nothing: one that needs no more ends at a loss that cannot be told to be higher.

    Losses of two settings are compared over the seeds both have, so that an unlucky seed of one does not decide, and
    count as different only where they are further apart than `chance` says of the two.
    """
    gaps = pd.DataFrame(_loss_gaps(settings), index=settings.index, columns=settings.index)
    kept: list[object] = []
    for place, row in settings.sort_values(["peak_bytes", "loss"], kind="stable").iterrows():
        beaten = [
            other
            for other in kept
            if gaps.at[place, other] >= -chance(row, settings.loc[other])
            and (gaps.at[place, other], row["peak_bytes"]) != (0, settings.at[other, "peak_bytes"])
        ]
        kept += [] if beaten else [place]
    return pd.Series(~settings.index.isin(kept), index=settings.index)


def _loss_gaps(settings: pd.DataFrame) -> np.ndarray:
    """How much higher the loss of each setting (row) is than that of each (column); without a shared seed, by means."""
    losses = pd.DataFrame(settings["losses"].to_list()).to_numpy(dtype=float)
    apart = losses[:, None, :] - losses[None, :, :]
    shared = (~np.isnan(apart)).sum(axis=2)
    means = settings["loss"].to_numpy(dtype=float)
    return np.where(shared, np.nansum(apart, axis=2) / np.maximum(shared, 1), means[:, None] - means)


def rank_series(study: Study) -> list[pd.DataFrame]:
    """For each adapter regime the finished settings that differ in rank alone, of such series the longest."""
    found = []
    others = [axis for axis in AXES if axis != "rank"]
    for regime in REGIMES[1:]:
        same = study.finished[(study.finished["regime"] == regime).to_numpy()]
        series = [group.sort_values("rank") for _, group in same.groupby(others, sort=False) if len(group) > 1]
        if series:
            found.append(max(series, key=lambda group: (len(group), usual_values(group))))
    return found


def checkpointing_pairs(study: Study) -> pd.DataFrame:
    """Every finished checkpointed run beside the one of the same seed without (`<name>_baseline`), else equal.

    Its times are in `added` and `withheld`, as `times.compared` says.
    """
    done = study.runs[(study.runs["status"] == "ok").to_numpy()]
    plain = (done["checkpointing"] == "none").to_numpy()
    same = [*(axis for axis in AXES if axis != "checkpointing"), "seed"]
    pairs = done[~plain].merge(done[plain].drop(columns="checkpointing"), on=same, suffixes=("", "_baseline"))
    return times.compared(pairs)


def curve(study: Study, setting: pd.Series, split: str) -> pd.DataFrame:
    """Mean, lowest and highest bits per byte over the seeds that finished, by step."""
    done = study.runs[(study.runs["status"] == "ok").to_numpy()]
    seeds = set(done.loc[_of(done, setting), "seed"])
    rows = study.curves[_of(study.curves, setting)]
    rows = rows[((rows["split"] == split) & rows["seed"].isin(seeds)).to_numpy()]
    return rows.groupby("step")["bits_per_byte"].agg(["mean", "min", "max"]).astype(float)


def _of(rows: pd.DataFrame, setting: pd.Series) -> pd.Series:
    """Which rows belong to a setting."""
    return (rows[list(AXES)] == setting[list(AXES)]).all(axis=1).to_numpy()
