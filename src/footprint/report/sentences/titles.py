"""The titles of the sections: their topic and what was found, computed from the tables; else the topic alone."""

import pandas as pd

from footprint.report.page.empty import NoRunsError
from footprint.report.page.words import bits, counted, listing, percent
from footprint.report.reading.effects import adapted, checkpointing_effects, growth_by_rank, series
from footprint.report.reading.selection import headline, measured, one_change, setting, source
from footprint.report.reading.study import Study
from footprint.report.reading.study import headline as study_headline
from footprint.report.textbook.verdicts import Claim, tally


def changes(runs: pd.DataFrame) -> str:
    """What to change first."""
    regimes = measured(headline(runs))
    if not len(regimes):
        return "What to change first"
    start = regimes.loc[regimes["peak_bytes_measured"].astype(float).idxmax()]
    found = one_change(runs, start, regimes)
    found = found[(found["peak_bytes_measured"] < start["peak_bytes_measured"]).to_numpy()]
    if not len(found):
        return "What to change first"
    best = found.iloc[0]
    saved = percent(1 - best["peak_bytes_measured"] / start["peak_bytes_measured"])
    return f"What to change first: {best['change']} instead of {setting(start)} saves {saved} of the peak"


def ablation(runs: pd.DataFrame) -> str:
    """The table that the project started from."""
    rows = measured(headline(runs))
    if not len(rows):
        return "The lesson's table, regenerated"
    shares = (rows["activations_bytes_measured"] / rows["peak_bytes_measured"]).astype(float)
    low, high = percent(shares.min()), percent(shares.max())
    share = low if low == high else f"{low} to {high}"
    return f"The lesson's table, regenerated: activations, which it leaves out, are {share} of the peak"


def estimates(runs: pd.DataFrame) -> str:
    """How good the prediction is."""
    done = measured(runs)
    if not len(done):
        return "Estimates"
    exact = int((done["peak_relative_error"].astype(float) == 0).sum())
    return f"Estimates: predicted to the byte in {exact} of {counted(len(done), f'{source(done)} run')}"


def phases(runs: pd.DataFrame) -> str:
    """Which phase sets the peak."""
    done = measured(runs)
    if not len(done):
        return "Phases"
    counts = done["peak_phase_measured"].value_counts()
    names = {"step": "the optimizer step"}
    if len(counts) == 1:
        return f"Phases: every peak is in {names.get(counts.index[0], counts.index[0])}"
    where = listing(f"in {names.get(phase, phase)} in {count}" for phase, count in counts.items())
    return f"Phases: the peak is {where} of {counted(len(done), 'run')}"


def ranks(runs: pd.DataFrame) -> str:
    """What the whole span of ranks costs."""
    topic, growth = "Ranks and targets" if series(runs, "targets") else "Ranks", growth_by_rank(runs)
    if not len(growth):
        return topic
    tried = adapted(runs)["rank"].astype(int)
    low, high = percent(growth.min()), percent(growth.max())
    return (
        f"{topic}: from rank {tried.min()} to {tried.max()} a peak grows by "
        f"{low if low == high else f'{low} to {high}'}"
    )


def checkpointing(runs: pd.DataFrame) -> str:
    """What recomputing saves of activations, and of the peak."""
    try:
        effects = checkpointing_effects(runs)
    except NoRunsError:
        return "Checkpointing"
    factor = effects["activations_factor"].astype(float)
    low, high = f"{factor.min():.1f}", f"{factor.max():.1f}"
    return f"Checkpointing: {low if low == high else f'{low} to {high}'} times fewer activation bytes at the peak"


def loss(study: Study | None) -> str:
    """Where fine-tuning takes the loss."""
    rows = study_headline(study) if study is not None else ()
    if not len(rows):
        return "Loss and speed beside memory"
    rows = study.finished[(study.finished["model"] == rows["model"].iloc[0]).to_numpy()]
    before, ends = rows["base_bits_per_byte"].astype(float), rows["loss"].astype(float)
    start, reached = (
        low if low == high else f"{low}–{high}"
        for low, high in ((bits(losses.min()), bits(losses.max())) for losses in (before, ends))
    )
    return f"Loss beside memory: {int(rows['steps'].max()):,} steps take it from {start} to {reached} bits per byte"


def trial(claims: list[Claim]) -> str:
    """How much of the textbook holds."""
    kept, units, off = tally(claims)
    return (
        f"The textbook on trial: of {counted(len(claims), 'claim')} {kept} hold, {units} mistake units, {off} are off"
    )
