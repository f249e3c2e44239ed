"""The tables of the quality study: its settings, QLoRA's starting point, what recomputing does to loss and time."""

import pandas as pd

from footprint.report.page.empty import NoRunsError
from footprint.report.page.table import Table, telling
from footprint.report.page.words import bits, bits_apart, change, duration, listing, percent
from footprint.report.reading.selection import CHECKPOINTING_NAMES, varying
from footprint.report.reading.study import SECONDS, Study, checkpointing_pairs, named
from footprint.spec.run import AXES
from footprint.spec.units import format_bytes

STORAGES = ("fp32", "bf16", "fp16", "nf4", "nf4-double")
"""How a base may be stored, in reading order; the first is what the others are held against."""

_CLOCKED = (*SECONDS, "tokens_per_second", "training_seconds")
"""Columns of what a setting takes, medians over the seeds that were not disturbed."""

_OUTCOMES = {"oom": "out of memory", "diverged": "a loss that is not a number"}


def settings(study: Study) -> Table:
    """Every setting with its memory and its loss over the seeds; failed ones in their place."""
    rows = study.settings
    shown = [{"Setting": row["name"]} | _numbers(row) | {"Seeds": _seeds(row)} for _, row in rows.iterrows()]
    raw = rows.drop(columns=["name", "failed", "losses", "step", *_CLOCKED])
    raw = raw.rename(columns={"loss": "validation_bits_per_byte"})
    raw = raw.rename(columns={f"loss_{end}": f"validation_bits_per_byte_{end}" for end in ("low", "high")})
    marked = tuple("" if row["finished"] else "oom" for _, row in rows.iterrows())
    return Table(shown=telling(pd.DataFrame(shown), "Error"), raw=raw, words=("Seeds",), marked=marked)


def pace(study: Study) -> Table:
    """How long a step of every setting that finished takes, and which share of it each part."""
    rows = study.settings[(study.settings["finished"] > 0).to_numpy()]
    if not len(rows):
        raise NoRunsError("No fine-tuning finished, so none was timed.")
    shown, raw = [], []
    for _, row in rows.iterrows():
        time = row["step"]
        if time is None:
            cells = dict.fromkeys(("Step", "Forward", "Backward", "Optimizer", "Tokens/s"), "–") | {"Step": "disturbed"}
        else:
            parts = [float(row[name]) for name in SECONDS]
            shares = [percent(part / sum(parts)) for part in parts]
            cells = {"Step": duration(time.middle, time.give)}
            cells |= dict(zip(("Forward", "Backward", "Optimizer"), shares, strict=True))
            cells |= {"Tokens/s": f"{row['tokens_per_second']:,.0f}"}
        shown.append({"Setting": row["name"]} | cells)
        ends = dict.fromkeys(("middle", "lower", "upper")) if time is None else vars(time)
        raw.append(dict(row[[*AXES, *_CLOCKED]]) | {f"step_seconds_{end}": value for end, value in ends.items()})
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw))


def _seeds(row: pd.Series) -> str:
    """How many seeds finished, and what came of the others."""
    if row["finished"] in (0, row["seeds"]):
        return f"{row['finished']} of {row['seeds']}" if row["failed"] else str(row["seeds"])
    failed = listing(
        f"{count} {'out of memory' if status == 'oom' else status}" for status, count in row["failed"].items()
    )
    return f"{row['finished']} of {row['seeds']}: {failed}"


def _numbers(row: pd.Series) -> dict[str, str]:
    names = ("Peak", "Loss after", "Range over seeds", "Loss before", "Predicted", "Error")
    if not row["finished"]:
        outcome = listing(_OUTCOMES.get(status, status) for status in row["failed"])
        return dict.fromkeys(names, "–") | {"Peak": outcome, "Predicted": format_bytes(row["peak_predicted_bytes"])}
    ends = f"{bits(row['loss_low'])}–{bits(row['loss_high'])}" if row["finished"] > 1 else "one seed"
    predicted, peak = row["peak_predicted_bytes"], row["peak_bytes"]
    cells = (
        format_bytes(peak),
        bits(row["loss"]),
        ends,
        bits(row["base_bits_per_byte"]),
        format_bytes(predicted),
        percent(predicted / peak - 1, signed=True),
    )
    return dict(zip(names, cells, strict=True))


def bases(study: Study) -> Table:
    """What storing the base in fewer bits costs before any step: bytes, error of the weights, loss on both texts."""
    found = study.bases
    order = {storage: place for place, storage in enumerate(STORAGES)}
    found = found.sort_values(["model", "storage"], key=lambda c: c.map(order) if c.name == "storage" else c)
    if not len(found):
        raise NoRunsError("No base was evaluated as it is stored, so QLoRA's starting point is not known.")
    shown = []
    for model, rows in found.groupby("model", sort=False):
        exact = rows[(rows["storage"] == STORAGES[0]).to_numpy()]
        for _, row in rows.iterrows():
            cells = {"Model": model, "Stored as": row["storage"], "Weights": format_bytes(row["weights_bytes"])}
            cells["Weight error"] = percent(row["weight_error"])
            for text, heading in _TEXTS.items():
                cells[heading] = _beside_exact(row[f"{text}_bits_per_byte"], exact[f"{text}_bits_per_byte"])
            shown.append(cells)
    return Table(shown=pd.DataFrame(shown), raw=found, words=("Stored as",), grouped=True)


_TEXTS = {"pretraining": "Loss, pretraining text", "finetuning": "Loss, fine-tuning text"}


def _beside_exact(loss: float, exact: pd.Series) -> str:
    """A loss and how far it lies from that of the base in full precision (a column of one row, or of none)."""
    if pd.isna(loss):
        return "–"
    gap = loss - exact.iloc[0] if len(exact) else 0.0
    return f"{bits(loss)} ({bits_apart(gap, signed=True)})" if gap else bits(loss)


def recomputing(study: Study) -> Table:
    """Every checkpointed run beside the one without of the same seed: peak saved, loss difference, step time added."""
    pairs = checkpointing_pairs(study)
    if not len(pairs):
        raise NoRunsError("The quality study has no setting both with and without checkpointing.")
    axes = varying(pairs.assign(checkpointing="none"))
    shown, raw = [], []
    for _, pair in pairs.iterrows():
        changes = {
            "peak_saved": 1 - pair["peak_bytes"] / pair["peak_bytes_baseline"],
            "loss_difference": pair["validation_bits_per_byte"] - pair["validation_bits_per_byte_baseline"],
        }
        time = pair["added"]
        changes["step_time_added"] = None if time is None else time.middle
        plain = pair.copy()
        plain["checkpointing"] = "none"
        shown.append(
            {
                "Setting": named(plain, axes),
                "Mode": CHECKPOINTING_NAMES.get(pair["checkpointing"], pair["checkpointing"]),
                "Seed": str(pair["seed"]),
                "Peak saved": percent(changes["peak_saved"]),
                "Loss difference": bits_apart(changes["loss_difference"], signed=True),
                "Step time": "disturbed" if time is None else change(time.middle, time.give),
            }
        )
        raw.append({axis: pair[axis] for axis in (*AXES, "seed")} | changes)
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw), words=("Mode",), grouped=True)
