"""The tables of the report: each takes runs and returns a Table, every number beside the one it is held against."""

import pandas as pd
from markupsafe import Markup

from footprint.report.page.empty import NoRunsError
from footprint.report.page.table import Table, stacked, telling
from footprint.report.page.words import change, duration, outcome, percent
from footprint.report.reading import times
from footprint.report.reading.effects import checkpointing_effects
from footprint.report.reading.selection import (
    CHECKPOINTING_NAMES,
    REGIME_NAMES,
    axis_text,
    headline,
    label,
    measured,
    one_change,
    setting,
    source,
    varying,
)
from footprint.report.sentences import limits
from footprint.spec.columns import PHASES, SIDES
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import AXES
from footprint.spec.units import format_bytes

GRID_NUMBERS = (
    "status",
    "peak_bytes_measured",
    "peak_bytes_predicted",
    "peak_relative_error",
    "textbook_bytes",
    "textbook_relative_error",
    "peak_phase_measured",
    "step_seconds",
    "lower_step_seconds",
    "upper_step_seconds",
    "neighbour_load",
)


def answers(runs: pd.DataFrame) -> Table:
    """What each regime needs, with both estimates and how far off they are."""
    rows = headline(runs)
    shown = [
        {
            "Setting": setting(run),
            f"{source(run).capitalize()} peak": outcome(run),
            "Predicted": format_bytes(run["peak_bytes_predicted"]),
            "Error": _error(run["peak_relative_error"]),
            "Textbook": format_bytes(run["textbook_bytes"]),
            "Textbook's error": _error(run["textbook_relative_error"]),
            "Trainable": f"{run['trainable_parameters_predicted']:,}",
            "Step": step(run),
        }
        for _, run in rows.iterrows()
    ]
    return Table(shown=telling(pd.DataFrame(shown), "Error", "Step"), raw=rows[[*AXES, *GRID_NUMBERS]])


def changes(runs: pd.DataFrame) -> Table:
    """From each regime, the single decisions that save memory, the most saving first (at most three each)."""
    regimes = headline(runs)
    shown, raw = [], []
    for _, start in measured(regimes).iterrows():
        better = one_change(runs, start, regimes)
        better = better[(better["peak_bytes_measured"] < start["peak_bytes_measured"]).to_numpy()].head(3)
        for _, run in better.iterrows():
            saved = 1 - run["peak_bytes_measured"] / start["peak_bytes_measured"]
            recomputing = start["checkpointing"] == "none" != run["checkpointing"]
            time = times.added(run, start, recomputing=recomputing)
            shown.append(
                {
                    "From": f"{setting(start)}, {outcome(start)}",
                    "Change to": run["change"],
                    "Saved": percent(saved),
                    "Step time": _added(time, timed=pd.notna(run["step_seconds"])),
                    "Peak": outcome(run),
                }
            )
            raw.append(
                {"from": setting(start), "change": run["change"], "peak_bytes": run["peak_bytes_measured"]}
                | {"saved": saved}
                | _ends(time)
            )
    if not shown:
        raise NoRunsError("No finished run differs from another by one decision that saves memory.")
    cells = telling(pd.DataFrame(shown), "Step time")
    return Table(shown=cells, raw=pd.DataFrame(raw), words=("Change to",), grouped=True)


def grid(runs: pd.DataFrame, limit: int | None = None) -> Table:
    """Every run of the experiment, in reading order; with a memory `limit`, what the prediction said about it."""
    axes = varying(runs)
    shown = [
        {"Setting": setting(run)}
        | {axis.capitalize(): axis_text(axis, run[axis]) for axis in axes}
        | {
            f"{source(run).capitalize()} peak": outcome(run),
            "Predicted": format_bytes(run["peak_bytes_predicted"]),
        }
        | ({f"Within {format_bytes(limit)}?": limits.verdict(run, limit)} if limit else {})
        | {
            "Error": _error(run["peak_relative_error"]),
            "Textbook": format_bytes(run["textbook_bytes"]),
            "Textbook's error": _error(run["textbook_relative_error"]),
            "Peak in": "–" if pd.isna(run["peak_phase_measured"]) else run["peak_phase_measured"],
            "Step": step(run),
        }
        for _, run in runs.iterrows()
    ]
    marked = tuple("" if status == "ok" else "oom" for status in runs["status"])
    words = tuple(axis.capitalize() for axis in axes if axis not in ("batch", "seq"))
    raw = runs[[*AXES, *GRID_NUMBERS]]
    if limit:
        raw = raw.assign(memory_limit=limit, foreseen=[limits.foreseen(run, limit) for _, run in runs.iterrows()])
    cells = telling(pd.DataFrame(shown), "Error", "Step")
    return Table(shown=cells, raw=raw, words=words, marked=marked)


def phases(runs: pd.DataFrame) -> Table:
    """The peak of each phase of the headline runs, measured and predicted."""
    rows = measured(headline(runs))
    if not len(rows):
        raise NoRunsError("No run that represents a regime finished, so there are no phases to list.")
    shown, raw = [], []
    for _, run in rows.iterrows():
        for phase in PHASES:
            size, predicted = (run[f"{phase}_peak_bytes_{side}"] for side in ("measured", "predicted"))
            name = Markup("<strong>{}</strong>").format(phase) if phase == run["peak_phase_measured"] else phase
            cells = {source(run).capitalize(): format_bytes(size), "Predicted": format_bytes(predicted)}
            shown.append({"Setting": setting(run), "Phase": name} | cells | {"Error": _error(predicted / size - 1)})
            raw.append({"setting": setting(run), "phase": phase, "measured_bytes": size, "predicted_bytes": predicted})
    cells = telling(pd.DataFrame(shown), "Error")
    return Table(shown=cells, raw=pd.DataFrame(raw), words=("Phase",), grouped=True)


def simulated(runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs that have a third opinion."""
    done = measured(runs)
    return done[done["peak_bytes_simulated"].notna().to_numpy()]


def third_opinion(runs: pd.DataFrame) -> Table:
    """How far each phase's measured peak lies above prediction and simulation, the most over the runs of a regime."""
    rows = simulated(runs)
    if not len(rows):
        raise NoRunsError("No third opinion was asked for (`report.third_opinion`).")
    shown, raw = [], []
    for regime, same in rows.groupby("regime", sort=False):
        for phase in PHASES:
            peaks = {side: same[f"{phase}_peak_bytes_{side}"] for side in (*SIDES, "simulated")}
            apart = {side: (peaks["measured"] - peaks[side]).abs() for side in ("predicted", "simulated")}
            most = {side: int(sizes.max()) for side, sizes in apart.items()}
            cells = {f"From {side}": format_bytes(size) for side, size in most.items()}
            share = float((apart["simulated"] / peaks["measured"]).max())
            shown.append({"Regime": REGIME_NAMES[regime], "Phase": phase} | cells | {"Share": percent(share)})
            raw.append({"regime": regime, "phase": phase} | {f"from_{side}_bytes": n for side, n in most.items()})
    cells = telling(pd.DataFrame(shown), "From predicted")
    return Table(shown=cells, raw=pd.DataFrame(raw), words=("Phase",), grouped=True)


def checkpointing(runs: pd.DataFrame, layers: dict[str, int]) -> Table:
    """What checkpointing saves and costs by regime (medians over otherwise equal pairs), beside √L.

    `layers` holds the blocks of each model whose shape is known.
    """
    shown, raw = [], []
    for (model, regime, mode), pairs in checkpointing_effects(runs).groupby(
        ["model", "regime", "checkpointing"], sort=False
    ):
        middle = pairs[["activations_factor", "activations_saved", "peak_saved"]].median()
        time, timed = times.typical(pairs["added"]), pairs["step_seconds"].notna().any()
        undisturbed = int(pairs["added"].notna().sum())
        shown.append(
            {
                "Regime": REGIME_NAMES[regime],
                "Mode": CHECKPOINTING_NAMES[mode],
                "Peak saved": percent(middle["peak_saved"]),
                "Step time": _added(time, timed=timed),
                "Activations": f"{middle['activations_factor']:.1f}× less",
                "√L would be": f"{layers[model] ** 0.5:.1f}×" if model in layers else "–",
                "Pairs": str(len(pairs)),
                "Timed": str(undisturbed) if timed else "–",
            }
        )
        raw.append(
            {"model": model, "regime": regime, "checkpointing": mode}
            | dict(middle)
            | _ends(time)
            | {"pairs": len(pairs), "timed": undisturbed}
        )
    cells = telling(pd.DataFrame(shown), "Step time", "Timed")
    return Table(shown=cells, raw=pd.DataFrame(raw), words=("Mode",), grouped=True)


def by_axis(series: list[pd.DataFrame], *axes: str) -> Table:
    """Series of runs that differ in one axis (named in `axes` unless it is the rank): what trains, what is live."""
    rows = pd.concat(series)
    shown = [
        {
            "Setting": label(run, axes),
            "Trainable": f"{run['trainable_parameters_predicted']:,}",
            "Activations": format_bytes(run["activations_bytes_measured"]),
            f"{source(run).capitalize()} peak": outcome(run),
            "Predicted": format_bytes(run["peak_bytes_predicted"]),
            "Error": _error(run["peak_relative_error"]),
        }
        for _, run in rows.iterrows()
    ]
    numbers = ["trainable_parameters_predicted", "activations_bytes_measured", *GRID_NUMBERS]
    return Table(shown=telling(pd.DataFrame(shown), "Error"), raw=rows[[*AXES, *numbers]])


def precisions() -> Table:
    """What each precision keeps, in bytes per element."""
    raw = pd.DataFrame(
        [
            {"precision": name, "frozen_base": p.base, "trained": p.trained, "master": p.stepped if p.has_master else 0}
            | {"gradients": p.trained, "adam": 2 * p.stepped, "autocast": p.autocast}
            for name, p in PRECISIONS.items()
        ]
    )
    shown = pd.DataFrame(
        {
            "Precision": raw["precision"],
            "Frozen base": [f"{size} B, or NF4" for size in raw["frozen_base"]],
            "What trains": [
                f"{row.trained} B" + (f" + {row.master} B master" if row.master else "") for row in raw.itertuples()
            ],
            "Gradients": [f"{size} B" for size in raw["gradients"]],
            "Adam": [f"{size} B" for size in raw["adam"]],
            "Forward": ["under autocast" if autocast else "as stored" for autocast in raw["autocast"]],
        }
    )
    return Table(shown=shown, raw=raw)


def provenance(runs: pd.DataFrame) -> Table:
    """Where the rows come from: every distinct combination of device, versions and commit, with its runs and dates."""
    packages = {"torch_version": "PyTorch", "bitsandbytes_version": "bitsandbytes", "peft_version": "PEFT"}
    packages |= {"transformers_version": "Transformers"}
    columns = ["device_name", "host_driver", *packages, "git_commit", "threads"]
    groups = runs.assign(measured_at=runs["measured_at"].astype(str)).groupby(columns, dropna=False, sort=False)
    raw = groups["measured_at"].agg(runs="size", first="min", last="max").reset_index()
    shown = pd.DataFrame(
        {
            "Device": raw["device_name"],
            "Host": raw["host_driver"],
            "Packages": [
                ", ".join(f"{name} {row[key]}" for key, name in packages.items() if pd.notna(row[key]))
                for _, row in raw.iterrows()
            ],
            "Commit": raw["git_commit"],
            "Threads": raw["threads"],
            "Runs": raw["runs"],
            "Date": [
                stacked(row["first"][:16].replace("T", " "), row["last"][:16].replace("T", " "))
                for _, row in raw.iterrows()
            ],
        }
    )
    return Table(shown=shown, raw=raw, words=("Commit", "Date"), prose=("Host", "Packages"))


def step(run: pd.Series) -> str:
    """How long a step of a run takes; that it was disturbed, if it was; a rehearsal has no times."""
    if pd.isna(run["step_seconds"]):
        return "–"
    time = times.step_of(run)
    return "disturbed" if time is None else duration(time.middle, time.give)


def _added(time: times.Time | None, *, timed: bool) -> str:
    """A change of step time; a rehearsal has no times, and of a disturbed pair they say nothing."""
    return "–" if not timed else "disturbed" if time is None else change(time.middle, time.give)


def _ends(time: times.Time | None) -> dict[str, float | None]:
    """A change of step time as numbers: its median and the ends of what it may be."""
    ends = (None, None, None) if time is None else (time.middle, time.lower, time.upper)
    return dict(zip(("step_time_added", "step_time_added_lower", "step_time_added_upper"), ends, strict=True))


def _error(value: float) -> str:
    return "–" if pd.isna(value) else percent(value, signed=True)
