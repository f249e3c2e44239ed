"""One run by MiniGPT and in Transformers, as tables."""

import pandas as pd

from footprint.report.page.table import Table, telling
from footprint.report.page.words import outcome, percent
from footprint.report.reading.selection import REGIME_NAMES, label, setting, varying
from footprint.report.reading.stacks import Rehearsals, differences, effects
from footprint.spec.columns import BUCKET_BYTES, PHASE_PEAKS
from footprint.spec.recipe import STACKS
from footprint.spec.run import AXES
from footprint.spec.units import format_bytes

STACK_NAMES = {"minigpt": "Own loop", "transformers": "Transformers"}

KINDS = {
    "frozen_base": "frozen weights",
    "adapter": "adapters",
    "trained": "trained weights",
    "master": "master copies",
    "gradients": "gradients",
    "optimizer": "Adam's moments",
}

CAUSES = {
    "no LoRA dropout": "masks and dropped-out inputs of LoRA's dropout",
    "not prepared": "embedding, head and norms in fp32, and what autocast copies of them",
    "precision bf16": "what norms keep in fp32",
    "no autocast": "copies that autocast makes",
    "no clipping": "what clipping adds up",
}
"""What a setting removes."""


def by_bucket(found: Rehearsals) -> Table:
    """Buckets at the peak of both stacks, and the highest point of each phase."""
    rows = found.runs[found.runs["run"].isin(STACKS).to_numpy()]
    shown = [
        {"Regime": setting(run), "Trained by": STACK_NAMES[run["run"]], "Peak": format_bytes(int(run["peak_bytes"]))}
        | {_word(name): format_bytes(int(run[name])) for name in (*BUCKET_BYTES, *PHASE_PEAKS)}
        for _, run in rows.iterrows()
    ]
    return Table(shown=telling(pd.DataFrame(shown), "Gradients"), raw=rows, words=("Trained by",), grouped=True)


def _word(column: str) -> str:
    """`Weights` from `weights_bytes`."""
    return column.removesuffix("_bytes").removesuffix("_peak").capitalize()


def tensors(found: Rehearsals) -> Table:
    """The tensors that one stack has more of at the peak, why, and the setting that removes them."""
    raw = differences(found)
    shown = [
        {
            "Regime": REGIME_NAMES[row["regime"]],
            "Tensors": KINDS.get(row["kind"]) or row["tensor"].replace(" x ", " × "),
            STACK_NAMES["minigpt"]: format_bytes(row["minigpt_bytes"]),
            STACK_NAMES["transformers"]: format_bytes(row["transformers_bytes"]),
            "They are": CAUSES.get(row["setting"], "–"),
            "Removed by": row["setting"] or "–",
        }
        for row in raw.to_dict("records")
    ]
    return Table(shown=pd.DataFrame(shown), raw=raw, words=("Tensors", "Removed by"), prose=("They are",), grouped=True)


def settings(found: Rehearsals) -> Table:
    """By how much each setting changes the peak in Transformers."""
    changes = list(effects(found))
    shown = [
        {"Set otherwise": name} | {REGIME_NAMES[regime]: _signed(size) for regime, size in sizes.items()}
        for name, sizes in changes
    ]
    raw = [{"setting": name} | {f"{regime}_bytes": size for regime, size in sizes.items()} for name, sizes in changes]
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw))


def _signed(size: int | None) -> str:
    if size is None:
        return "–"
    return "0" if size == 0 else f"{'−' if size < 0 else '+'}{format_bytes(abs(size))}"


def every(runs: pd.DataFrame) -> Table:
    """Every run under Transformers: its peak and buckets, and why it has none."""
    axes = [axis for axis in varying(runs) if axis != "stack"]
    shown = []
    for _, run in runs.iterrows():
        sizes = {name: run[f"{name}_measured"] for name in BUCKET_BYTES}
        cells = {_word(name): "–" if pd.isna(size) else format_bytes(size) for name, size in sizes.items()}
        shown.append({"Setting": label(run, axes), "Peak": outcome(run)} | cells)
    raw = runs[[*AXES, "status", "peak_bytes_measured", *(f"{name}_measured" for name in BUCKET_BYTES)]]
    return Table(shown=pd.DataFrame(shown), raw=raw)


def measured_pairs(pairs: pd.DataFrame) -> Table:
    """The peaks of both stacks where this experiment has both."""
    axes = [axis for axis in varying(pairs) if axis != "stack"]
    shown = [
        {
            "Setting": label(run, axes),
            STACK_NAMES["minigpt"]: format_bytes(run["peak_bytes_measured"]),
            STACK_NAMES["transformers"]: format_bytes(run["peak_bytes_measured_transformers"]),
            "Difference": percent(
                run["peak_bytes_measured_transformers"] / run["peak_bytes_measured"] - 1, signed=True
            ),
        }
        for _, run in pairs.iterrows()
    ]
    return Table(shown=pd.DataFrame(shown), raw=pairs)
