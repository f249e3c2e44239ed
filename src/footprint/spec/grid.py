"""From the sub-grids of a config to the runs they stand for: product, defaults, collapse, no duplicates. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from footprint.errors import FootprintError
from footprint.spec.checks import require
from footprint.spec.model import ModelSpec, sets_of_linears
from footprint.spec.presets import PRESETS
from footprint.spec.run import AXES, AXIS_DEFAULTS, STACK_DEFAULTS, RunSpec

if TYPE_CHECKING:
    import pandas

MOST_RUNS = 20_000
"""Runs a config may ask for before de-duplication; more is a slip of the keyboard, not an experiment."""


def expand(grids: Sequence[Mapping], models: Mapping[str, ModelSpec], device: str) -> tuple[RunSpec, ...]:
    """The runs of all sub-grids in the order written, each cell once.

    An axis value may be a list or a single value; axes a sub-grid does not mention take AXIS_DEFAULTS, or those of
    their stack.
    Models are looked up in `models`, then in PRESETS. Raises FootprintError naming the position
    (`grids[1].rank`) and the combination that cannot run.
    """
    runs: dict[RunSpec, None] = {}
    asked = sum(prod(map(len, _axes(grid).values())) for grid in grids)
    require(asked <= MOST_RUNS, "grids", asked, f"at most {MOST_RUNS} runs (counted before de-duplication)")
    for number, grid in enumerate(grids):
        require("seed" not in grid, f"grids[{number}].seed", grid.get("seed"), "training.seed, one for all runs")
        runs |= dict.fromkeys(expand_grid(grid, models, device, f"grids[{number}]"))
    return tuple(runs)


def expand_grid(grid: Mapping, models: Mapping[str, ModelSpec], device: str, where: str) -> tuple[RunSpec, ...]:
    """The runs of one sub-grid, which errors call `where`."""
    values, known = _axes(grid), PRESETS | dict(models)
    size = prod(map(len, values.values()))
    require(0 < size <= MOST_RUNS, where, size, f"1 to {MOST_RUNS} runs: at least one value for every axis")
    values["model"] = [_model(name, known, models, f"{where}.model") for name in values["model"]]
    return tuple(dict.fromkeys(_runs(values, grid, device, where)))


def _axes(grid: Mapping) -> dict[str, list]:
    values = AXIS_DEFAULTS | dict(grid)
    values["targets"] = sets_of_linears(values["targets"])
    return {axis: list(value) if isinstance(value, list | tuple) else [value] for axis, value in values.items()}


def _model(name: str, known: Mapping[str, ModelSpec], declared: Iterable[str], where: str) -> ModelSpec:
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    own = f"one of this config's models ({', '.join(declared) or 'none'})"
    raise FootprintError(f"{where}: unknown model {name!r}{hint}; use {own} or of the presets ({', '.join(PRESETS)})")


def _runs(values: Mapping[str, list], mentioned: Iterable[str], device: str, where: str) -> Iterator[RunSpec]:
    for combination in product(*values.values()):
        cell = dict(zip(values, combination, strict=True))
        usual = STACK_DEFAULTS.get(str(cell["stack"]).lower(), {})
        cell |= {axis: value for axis, value in usual.items() if axis not in mentioned}
        try:
            yield RunSpec(**cell, device=device)
        except FootprintError as error:
            raise FootprintError(f"{where}.{error} [in {_shown(cell, device)}]") from None


def _shown(cell: Mapping, device: str) -> str:
    named = cell | {"model": cell["model"].name, "device": device}
    return ", ".join(f"{axis} {named[axis]}" for axis in (*AXES, "device"))


def frame(runs: Iterable[RunSpec]) -> pandas.DataFrame:
    """One row per run with the axis columns, text and whole numbers only, as Snakemake's Paramspace needs them."""
    import pandas  # half a second that a command which needs no table should not pay

    return pandas.DataFrame([run.axes() for run in runs], columns=list(AXES))
