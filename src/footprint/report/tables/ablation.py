"""The original text's ablation table regenerated: its columns by the textbook, as predicted and as measured."""

import pandas as pd

from footprint.predict.textbook import FROZEN_HALF, FROZEN_NF4
from footprint.report.page.table import Table
from footprint.report.page.words import outcome, percent
from footprint.report.reading.selection import headline, setting, source
from footprint.spec.units import format_bytes

TRAINED_PARTS = {"Weights": 6, "Grad": 2, "Adam": 8}
"""The textbook's 16 bytes per trained parameter: half weight and fp32 master, half gradient, two fp32 moments."""

FROZEN_PART = {"full": 0.0, "lora": FROZEN_HALF, "qlora": FROZEN_NF4}
"""The textbook's bytes per frozen parameter."""

COLUMNS = ("Weights", "Grad", "Adam", "Total trainable", "Frozen base", "Approx total", "Activations", "Peak")
"""The seed's six columns, then what it leaves out: everything else live at that instant, and the peak itself."""


def textbook_parts(run: pd.Series) -> dict[str, float]:
    """The seed's columns in bytes by its own rule; it has no activations, so its total is its peak."""
    trained = int(run["trainable_parameters_predicted"])
    frozen = int(run["total_parameters_predicted"]) - trained
    parts: dict[str, float] = {name: each * trained for name, each in TRAINED_PARTS.items()}
    return _totals(parts, FROZEN_PART[run["regime"]] * frozen)


def counted_parts(run: pd.Series, side: str) -> dict[str, float]:
    """The seed's columns in bytes at the instant of the peak; `side` is measured or predicted."""
    size = {name: int(run[f"{name}_bytes_{side}"]) for name in ("weights", "gradients", "optimizer", "frozen_base")}
    trained = {"Weights": size["weights"] - size["frozen_base"], "Grad": size["gradients"], "Adam": size["optimizer"]}
    rest = {
        name: int(run[f"{column}_bytes_{side}"]) for name, column in (("Activations", "activations"), ("Peak", "peak"))
    }
    return _totals(trained, size["frozen_base"]) | rest


def _totals(trained: dict[str, float], frozen: float) -> dict[str, float]:
    total = sum(trained.values())
    return trained | {"Total trainable": total, "Frozen base": frozen, "Approx total": total + frozen}


def ablation(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows per regime in bytes: textbook, predicted, measured, and the prediction's error (a ratio).

    Where the prediction is exact in every cell, it would say the same again, and is left out with its error. A
    cell the source has nothing to say about, or a run without a peak, is missing.
    """
    rows, exact = [], is_exact(runs)
    for _, run in headline(runs).iterrows():
        predicted = counted_parts(run, "predicted")
        measured = counted_parts(run, "measured") if run["status"] == "ok" else {}
        error = {name: predicted[name] / size - 1 for name, size in measured.items() if size}
        sources = {"textbook": textbook_parts(run)}
        if exact:
            sources |= {source(run): measured}
        else:
            sources |= {"predicted": predicted, source(run): measured, "error": error}
        rows += [{"Setting": setting(run), "Source": name} | parts for name, parts in sources.items()]
    return pd.DataFrame(rows, columns=["Setting", "Source", *COLUMNS])


def is_exact(runs: pd.DataFrame) -> bool:
    """Whether every cell of the table was predicted to the byte."""
    rows = [run for _, run in headline(runs).iterrows()]
    return all(
        run["status"] == "ok" and counted_parts(run, "predicted") == counted_parts(run, "measured") for run in rows
    )


def agreement(runs: pd.DataFrame) -> str:
    """What the table says of the prediction, in a sentence."""
    if is_exact(runs):
        return f"Every {source(headline(runs))} cell was predicted to the byte."
    return f"The error is predicted / {source(headline(runs))} − 1."


def ablation_table(runs: pd.DataFrame) -> Table:
    """`ablation` as the report shows it; a run without a peak says why in its place."""
    raw = ablation(runs)
    failed = {setting(run): outcome(run) for _, run in headline(runs).iterrows() if run["status"] != "ok"}
    shown = [{name: _cell(row, name) for name in raw.columns} for _, row in raw.iterrows()]
    for row, origin in zip(shown, raw["Source"], strict=True):
        if origin in ("measured", "rehearsed") and row["Setting"] in failed:
            row["Peak"] = failed[row["Setting"]]
    return Table(
        shown=pd.DataFrame(shown),
        raw=raw,
        words=("Source",),
        grouped=True,
        marked=tuple(raw["Source"]),
    )


def _cell(row: pd.Series, name: str) -> str:
    value = row[name]
    if name in ("Setting", "Source"):
        return value
    if pd.isna(value) or (row["Source"] != "error" and value == 0):
        return "–"
    return percent(value, signed=True) if row["Source"] == "error" else format_bytes(value)
