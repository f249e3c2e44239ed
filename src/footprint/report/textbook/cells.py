"""The original text's ablation table on trial, cell by cell."""

import pandas as pd

from footprint.predict.prediction import predict
from footprint.report.page.table import Table
from footprint.report.reading.selection import alike, measured, setting, source
from footprint.report.tables.ablation import COLUMNS, counted_parts, textbook_parts
from footprint.report.textbook.verdicts import GOOD, coloured, judged_bytes
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.spec.units import format_bytes

SEED_TABLE = {
    "full": ("510 MiB", "170 MiB", "680 MiB", "1.36 GiB", None, "1.4 GiB"),
    "lora": ("20.8 MiB", "2.6 MiB", "10.4 MiB", "33.8 MiB", "170 MiB", "200 MiB"),
    "qlora": ("20.8 MiB", "2.6 MiB", "10.4 MiB", "33.8 MiB", "48 MiB", "80 MiB"),
}
"""The seed's ablation table as printed: its six columns for each regime."""


def cells(runs: pd.DataFrame) -> Table:
    """The seed's ablation table cell by cell: as printed, by its own rule, and at the peak of the run it describes."""
    shown, raw = [], []
    for regime, printed_cells in SEED_TABLE.items():
        run, side = _seed_run(runs, regime)
        rule, found = textbook_parts(run), counted_parts(run, side)
        for column, printed in zip(COLUMNS, printed_cells, strict=False):
            if printed is None:
                continue
            verdict = judged_bytes(printed, rule[column])
            cell = {
                "Setting": setting(run),
                "Cell": column,
                "Printed": printed,
                "Its rule gives": format_bytes(rule[column]),
            }
            at_peak = f"{format_bytes(found[column])} {source(run)}"
            shown.append(
                cell
                | {"At the peak": at_peak, "By its rule": coloured(verdict)}
                | {"Why": _why(printed, column, rule, found[column])}
            )
            raw.append(
                {"setting": setting(run), "cell": column, "printed": printed, "rule_bytes": rule[column]}
                | {f"{source(run)}_bytes": found[column], "verdict": verdict}
            )
    return Table(
        shown=pd.DataFrame(shown),
        raw=pd.DataFrame(raw),
        words=("Cell", "By its rule"),
        prose=("Why",),
        grouped=True,
    )


def _seed_run(runs: pd.DataFrame, regime: str) -> tuple[pd.Series, str]:
    """The run a row of the seed's table describes, and the side of its columns: `measured`, or only `predicted`."""
    spec = RunSpec(model=PRESETS["minigpt-85m"], regime=regime)
    done = alike(measured(runs), pd.Series(spec.axes()), but=[])
    if len(done):
        return done.iloc[0], "measured"
    predicted = {f"{name}_predicted": value for name, value in predict(spec).items() if name not in spec.axes()}
    return pd.Series(spec.axes() | predicted | {"source": "predicted"}), "predicted"


def _why(printed: str, column: str, rule: dict[str, float], found: float) -> str:
    """Which sum a wrong cell of the seed's table turns out to be, or why the peak has less than a right one."""
    verdict = judged_bytes(printed, rule[column])
    if verdict in GOOD or " not " in verdict:
        return "Of a full bucket; at this peak it is not full." if found < rule[column] / 2 else ""
    if column == "Weights" and judged_bytes(printed, rule["Total trainable"]) != judged_bytes(printed, rule[column]):
        return "This is already the total of 16 bytes per trained parameter."
    return "Counts that total again as weights."
