"""Measurement beside prediction: the join written to `comparison.csv`, one row per run."""

import pandas as pd

from footprint.errors import FootprintError
from footprint.spec.columns import COMPARED, COMPARISON, SIDES, SIMULATED
from footprint.spec.run import AXES


def compare(
    measurements: pd.DataFrame, predictions: pd.DataFrame, simulations: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The runs of the tables side by side, in the order of `measurements`.

    Every column they share appears as `<name>_measured` and `<name>_predicted` (bytes stay integers). The errors are
    predicted / measured - 1 and textbook / measured - 1; a run without a measured peak (out of memory) has neither.
    Runs under Transformers are not predicted. Raises FootprintError when a table lacks a column, repeats a run, or has
    a run the other does not.
    """
    _require("measurements", measurements, (*AXES, "status", *COMPARED))
    _require("predictions", predictions, (*AXES, "textbook_bytes", *COMPARED))
    own = measurements[(measurements["stack"] == "minigpt").to_numpy()]
    _require_same_runs(own, predictions)
    joined = measurements[[*AXES, "status", *COMPARED]].merge(
        predictions[[*AXES, "textbook_bytes", *COMPARED]],
        on=list(AXES),
        how="left",
        suffixes=tuple(f"_{side}" for side in SIDES),
    )
    measured = joined["peak_bytes_measured"].astype("Float64")
    joined["peak_relative_error"] = joined["peak_bytes_predicted"] / measured - 1
    joined["textbook_relative_error"] = joined["textbook_bytes"] / measured - 1
    if simulations is None:
        return joined.assign(**dict.fromkeys(SIMULATED.values(), pd.NA))[list(COMPARISON)]
    _require("simulations", simulations, (*AXES, *SIMULATED))
    # The third opinion is asked of one process.
    _require_same_runs(own[(own["gpus"] == 1).to_numpy()], simulations, "simulation")
    third = simulations[[*AXES, *SIMULATED]].rename(columns=SIMULATED)
    return joined.merge(third, on=list(AXES), how="left")[list(COMPARISON)]


def _require(name: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise FootprintError(f"{name}: the table lacks the columns {', '.join(missing)}")
    repeated = frame[frame.duplicated(list(AXES))]
    if len(repeated):
        raise FootprintError(
            f"{name}: the run {_named(repeated.iloc[0])} appears more than once; gather the runs again"
        )


def _require_same_runs(measurements: pd.DataFrame, others: pd.DataFrame, name: str = "prediction") -> None:
    measured, other = (pd.MultiIndex.from_frame(frame[list(AXES)]) for frame in (measurements, others))
    for here, there, lacking in ((measured, other, name), (other, measured, "measurement")):
        alone = here.difference(there, sort=False)
        if len(alone):
            run = _named(pd.Series(dict(zip(AXES, alone[0], strict=True))))
            raise FootprintError(f"comparison: {len(alone)} of {len(here)} runs have no {lacking}, the first is {run}")


def _named(run: pd.Series) -> str:
    return ", ".join(f"{axis} {run[axis]}" for axis in AXES)
