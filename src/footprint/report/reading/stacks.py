"""One run by MiniGPT and in Transformers: which tensors make the difference, and which setting removes them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from footprint.report.page.empty import NoRunsError
from footprint.report.reading.selection import measured
from footprint.spec.recipe import STACKS
from footprint.spec.run import AXES

FOLDER = "stacks"
"""In the reference folder: what `benchmarks/stacks.py` rehearsed."""

SETTLED = ("minigpt", "transformers", "checkpointing block", "not prepared, no LoRA dropout")
"""Runs that are no answer to which setting removes a tensor: checkpointing removes whatever is kept, and one is two."""

SMALL = 0.002
"""Differences below this share of the peak are not named."""


@dataclass(frozen=True)
class Rehearsals:
    """The runs of every regime with one setting changed at a time, and what was live at the peak of each."""

    runs: pd.DataFrame
    """One row per run: the axes, `run` (its name), peaks and buckets."""
    tensors: pd.DataFrame
    """`regime`, `run`, `kind`, `tensor` (its shape and dtype), `bytes`."""

    def peak(self, regime: str, run: str) -> int:
        """Bytes at the peak of one run."""
        rows = self.runs[(self.runs["regime"] == regime).to_numpy() & (self.runs["run"] == run).to_numpy()]
        return int(rows["peak_bytes"].iloc[0])


def load(reference: Path | None) -> Rehearsals:
    """What lies in the reference folder; NoRunsError where nothing does."""
    if reference is None or not (reference / FOLDER / "stacks.csv").exists():
        raise NoRunsError("No rehearsals of both stacks lie in the reference folder.")
    tables = (reference / FOLDER / name for name in ("stacks.csv", "stacks_tensors.csv"))
    return Rehearsals(*(pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in tables))


def differences(found: Rehearsals) -> pd.DataFrame:
    """Tensors that one stack has more of at the peak, the largest difference of each regime first.

    Columns `regime`, `kind`, `tensor`, `minigpt_bytes`, `transformers_bytes`, and the single setting that removes most
    of what is more: `setting` and `removed_bytes`, empty and 0 where none does.
    """
    rows = []
    for regime, group in found.tensors.groupby("regime", sort=False):
        sizes = group.pivot_table(index=["kind", "tensor"], columns="run", values="bytes", fill_value=0, aggfunc="sum")
        least = SMALL * found.peak(regime, "transformers")
        apart = (sizes["transformers"] - sizes["minigpt"]).sort_values(key=abs, ascending=False, kind="stable")
        for (kind, tensor), more in apart[apart.abs() > least].items():
            row = {"regime": regime, "kind": kind, "tensor": tensor}
            row |= {f"{stack}_bytes": int(sizes.loc[(kind, tensor), stack]) for stack in STACKS}
            peaks = {run: found.peak(regime, run) for run in sizes.columns}
            rows.append(row | _remover(sizes.loc[(kind, tensor)], more, peaks))
    return pd.DataFrame(rows)


def _remover(sizes: pd.Series, more: float, peaks: Mapping[str, int]) -> dict[str, object]:
    """The setting that takes most of a tensor away, if it takes half of what Transformers has more.

    Of several that do alike it is the one with the lowest peak.
    """
    removed = (sizes["transformers"] - sizes.drop(list(SETTLED), errors="ignore")).clip(upper=max(more, 0))
    best = max(removed.index, key=lambda run: (removed[run], -peaks[run]))
    if more <= 0 or removed[best] < more / 2:
        return {"setting": "", "removed_bytes": 0}
    return {"setting": best, "removed_bytes": int(removed[best])}


def effects(found: Rehearsals) -> Iterator[tuple[str, dict[str, int | None]]]:
    """For every setting, by how many bytes it changes the peak of each regime; None where it does not apply."""
    regimes = list(dict.fromkeys(found.runs["regime"]))
    for name in dict.fromkeys(found.runs["run"]):
        if name not in STACKS:
            there = set(found.runs[(found.runs["run"] == name).to_numpy()]["regime"])
            yield (
                name,
                {
                    regime: found.peak(regime, name) - found.peak(regime, "transformers") if regime in there else None
                    for regime in regimes
                },
            )


def pairs(runs: pd.DataFrame, under_transformers: pd.DataFrame) -> pd.DataFrame:
    """Finished runs that differ in their stack alone, side by side (`<name>_transformers`)."""
    same = [axis for axis in AXES if axis != "stack"]
    return measured(runs).merge(measured(under_transformers), on=same, suffixes=("", "_transformers"))
