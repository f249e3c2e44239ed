"""What the quality study says in words, every number computed; also what it does not show, and what went wrong."""

from collections.abc import Iterator
from itertools import combinations

import pandas as pd

from footprint.report.page.empty import NoRunsError
from footprint.report.page.words import bits, bits_apart, change, counted, duration, listing, percent
from footprint.report.reading import times
from footprint.report.reading.selection import CHECKPOINTING_NAMES, REGIME_NAMES
from footprint.report.reading.study import Study, checkpointing_pairs, curve, headline
from footprint.spec.run import REGIMES
from footprint.spec.units import format_bytes

NO_STUDY = (
    "These runs have no quality study (a `quality:` section in the configuration, and no rehearsal), so they say "
    "nothing about loss."
)

BRIEFLY = {"oom": "ran out of memory", "diverged": "diverged"}
"""What became of a run, by its status."""

SMALL = 0.0005
"""Bits per byte that do not show in the digits of a loss."""

Note = tuple[str, str]
"""A title and a paragraph, both plain text."""


def summary(study: Study) -> str:
    """The study in one sentence: where each regime's loss ends."""
    rows, none_left = headline(study), lost(study)
    if not len(rows):
        return none_left
    parts = [f"{bits(row['loss'])} with {row['name']}" for _, row in rows.iterrows()]
    first = rows.iloc[0]
    before = dict.fromkeys(bits(loss) for loss in sorted(rows["base_bits_per_byte"].astype(float)))
    model = f" {first['model']}" if rows["model"].nunique() == 1 else ""
    start = f"In {counted(int(first['steps']), 'step')} of fine-tuning{model}, validation loss starts at "
    ends = f"{start}{' to '.join(list(before)[:: max(1, len(before) - 1)])} bits per byte and ends at {listing(parts)}."
    return f"{ends} {none_left}" if none_left else ends


def lost(study: Study) -> str | None:
    """Which regimes have no fine-tuning that finished, and what became of them; None where every regime has one."""
    runs = study.runs
    if _none_ok(runs["status"]):
        many = counted(len(runs), "fine-tuning run")
        return f"Of {many} of the quality study none finished: {_outcomes(runs['status'])}."
    statuses = {regime: runs.loc[(runs["regime"] == regime).to_numpy(), "status"] for regime in REGIMES}
    parts = [f"{REGIME_NAMES[regime]} ({_outcomes(ends)})" for regime, ends in statuses.items() if _none_ok(ends)]
    return f"In the quality study no fine-tuning run finished with {' or '.join(parts)}." if parts else None


def _none_ok(statuses: pd.Series) -> bool:
    return len(statuses) > 0 and not (statuses == "ok").any()


def _outcomes(statuses: pd.Series) -> str:
    """`2 diverged`, or `1 diverged and 1 ran out of memory`."""
    return listing(f"{count} {BRIEFLY.get(status, status)}" for status, count in statuses.value_counts().items())


def sentences(study: Study) -> list[str]:
    """What the figures and tables of the section show, as sentences."""
    done = study.finished
    if not len(done):
        return [summary(study)]
    return [*_accuracy(done), *_speed(study), *_learning_rates(done)]


def _accuracy(done: pd.DataFrame) -> Iterator[str]:
    errors = (done["peak_predicted_bytes"].astype(float) / done["peak_bytes"].astype(float) - 1).dropna()
    if len(errors):
        close = f"at most {percent(errors.abs().max())} off" if errors.any() else "exact to the byte"
        yield f"In {counted(len(errors), 'setting')} trained to the end, the predicted peak is {close}."


def _speed(study: Study) -> Iterator[str]:
    """Which of the regimes is slowest, and in which part of the step; nothing where their times do not tell."""
    rows = headline(study)
    rows = rows[rows["step"].notna().to_numpy()]
    if len(rows) < 2:
        return
    middles = pd.Series([time.middle for time in rows["step"]], index=rows.index)
    slow, fast = (rows.loc[place] for place in (middles.idxmax(), middles.idxmin()))
    if slow["step"].lower <= fast["step"].upper:
        yield f"Steps of {listing(rows['name'])} take as long as one another, as far as the clock can tell."
        return
    parts = {part: slow[f"{part}_seconds"] - fast[f"{part}_seconds"] for part in ("forward", "backward", "optimizer")}
    most = max(parts, key=lambda part: parts[part])
    each = [f"{row['name']} {duration(row['step'].middle, row['step'].give)}" for row in (slow, fast)]
    yield (
        f"A step takes longest in {each[0]} and shortest in {each[1]}, most of the difference in "
        f"{'the optimizer step' if most == 'optimizer' else most}."
    )


def _learning_rates(done: pd.DataFrame) -> Iterator[str]:
    rates = {rate: dict.fromkeys(rows["regime"]) for rate, rows in done.groupby("learning_rate", sort=False)}
    if len(rates) > 1:
        each = listing(f"{rate:g} ({listing(map(REGIME_NAMES.get, regimes))})" for rate, regimes in rates.items())
        yield f"The settings do not share one learning rate: {each}; other choices could change their order."


def notes(study: Study) -> list[Note]:
    """What a reader must not overlook, each computed from the study's rows; the empty list where there is nothing."""
    found = (_failed, _not_learned, _indistinct, _against_memory, _rose_again, _one_seed, _bases)
    return [note for check in found for note in check(study)]


def _failed(study: Study) -> Iterator[Note]:
    explained = {"diverged": " (a loss that is no number, or worse than guessing)"}
    parts = []
    for status, brief in BRIEFLY.items():
        rows = study.settings[[status in failed for failed in study.settings["failed"]]]
        if len(rows):
            runs = sum(failed[status] for failed in rows["failed"])
            parts.append(f"{counted(runs, 'run')} {brief}{explained.get(status, '')}: {_few(rows['name'])}")
    if parts:
        yield "Not every run finished", f"{'. '.join(parts)}. Such runs are in the table and in no figure."


def _not_learned(study: Study) -> Iterator[Note]:
    rows = study.finished
    rows = rows[(rows["loss"] >= rows["base_bits_per_byte"]).to_numpy()]
    if len(rows):
        ends = [
            f"{r['name']} ({bits(r['base_bits_per_byte'])} before, {bits(r['loss'])} after)" for _, r in rows.iterrows()
        ]
        yield "Fine-tuning did not lower the loss everywhere", f"Validation loss did not fall for {_few(ends)}."


def verdict(study: Study, one: pd.Series, other: pd.Series) -> str:
    """`lower`, `higher` or `alike`: the loss of `one` against `other`, alike where seeds differ as much."""
    gap = one["loss"] - other["loss"]
    if abs(gap) <= (study.by_chance(pd.DataFrame([one, other])) or 0.0):
        return "alike"
    return "lower" if gap < 0 else "higher"


def _indistinct(study: Study) -> Iterator[Note]:
    """Regimes whose losses lie closer than the seeds of one setting."""
    rows = [row for _, row in headline(study).iterrows()]
    pairs = [(one, other) for one, other in combinations(rows, 2) if verdict(study, one, other) == "alike"]
    if not pairs:
        return
    each = [
        f"{one['name']} and {other['name']} end {bits_apart(abs(one['loss'] - other['loss']))}" for one, other in pairs
    ]
    chance = study.by_chance(pd.DataFrame([row for pair in pairs for row in pair]))
    spread = "" if chance is None else f"; seeds alone move a final loss there by up to {bits_apart(chance)}"
    yield (
        "Some regimes cannot be told apart by loss" if len(pairs) < 3 else "The regimes cannot be told apart by loss",
        f"{listing(each)} bits per byte apart{spread}.",
    )


def _against_memory(study: Study) -> Iterator[Note]:
    """A regime that needs more memory and yet ends at a higher loss, by more than chance."""
    worse: dict[str, list[str]] = {}
    for one, other in combinations([row for _, row in headline(study).iterrows()], 2):
        more, less = (one, other) if one["peak_bytes"] >= other["peak_bytes"] else (other, one)
        if more["peak_bytes"] > less["peak_bytes"] and verdict(study, more, less) == "higher":
            start = f"{more['name']} ends at {bits(more['loss'])} with {format_bytes(more['peak_bytes'])}"
            end = f"{less['name']} at {bits(less['loss'])} with {format_bytes(less['peak_bytes'])}"
            worse.setdefault(start, []).append(end)
    if worse:
        each = "; ".join(f"{start}, {listing(ends)}" for start, ends in worse.items())
        yield "More memory did not buy a lower loss", f"Against what memory would buy: {each}."


def _rose_again(study: Study) -> Iterator[Note]:
    """Settings whose validation loss was lower before the end than at it, by more than chance."""
    parts = []
    for _, row in headline(study).iterrows():
        losses = curve(study, row, "validation")["mean"]
        if len(losses) and losses.iloc[-1] - losses.min() > max(study.by_chance(row.to_frame().T) or 0.0, SMALL):
            lowest = f"lowest at step {losses.idxmin():,} ({bits(losses.min())})"
            parts.append(f"{row['name']} was {lowest} and ended at {bits(losses.iloc[-1])}")
    if parts:
        yield "Loss rose again before the end", f"{'; '.join(parts)}: fewer steps would have been better."


def _one_seed(study: Study) -> Iterator[Note]:
    rows = headline(study)
    single = rows[(rows["finished"] == 1).to_numpy()]
    if len(rows) > 1 and len(single):
        text = (
            f"{_few(single['name'])} {'was' if len(single) == 1 else 'were'} trained with one seed; how much another "
        )
        yield "Some differences may be chance", text + "seed would change the loss there is not known."


def _bases(study: Study) -> Iterator[Note]:
    bases = study.runs[(study.runs["status"] == "ok").to_numpy()].groupby("model")["base"].nunique()
    if (bases > 1).any():
        several = listing(f"{count} bases of {model}" for model, count in bases[bases > 1].items())
        yield (
            "The runs do not start from one base",
            f"The rows hold runs from {several}; delete the older ones and train them again before comparing losses.",
        )


def starting_point(study: Study) -> str | None:
    """What quantizing the base costs before the first step and what is left of it after the last; None if not known."""
    rows = headline(study)
    adapted = rows[rows["regime"].isin(["lora", "qlora"]).to_numpy()].set_index("regime")
    bases = study.bases.drop_duplicates(["model", "storage"]).set_index(["model", "storage"])
    if len(adapted) < 2:
        return None
    model, nf4 = adapted["model"].iloc[0], adapted.loc["qlora", "quantization"]
    half = next((kind for kind in ("bf16", "fp16") if (model, kind) in bases.index), None)
    if half is None or (model, nf4) not in bases.index:
        return None
    before, after = bases.loc[(model, half)], bases.loc[(model, nf4)]
    start = [row["finetuning_bits_per_byte"] for row in (after, before)]
    lora, qlora = adapted.loc["lora"], adapted.loc["qlora"]
    return (
        f"Stored as {nf4} instead of {half}, the base of {model} takes {format_bytes(after['weights_bytes'])} instead "
        f"of {format_bytes(before['weights_bytes'])} and starts {_against(*start, than='')} on the fine-tuning text; "
        f"after the last step {qlora['name']} is {_against(qlora['loss'], lora['loss'], than=lora['name'])}."
    )


def _against(loss: float, other: float, *, than: str) -> str:
    """`0.012 bits per byte higher than LoRA r=8`, or that the two losses are the same."""
    if loss == other:
        return f"at the same loss{f' as {than}' if than else ''}"
    gap = f"{bits_apart(abs(loss - other))} bits per byte {'higher' if loss > other else 'lower'}"
    return f"{gap}{f' than {than}' if than else ''}"


def recomputing(study: Study) -> str:
    """What checkpointing does to the loss and to the seconds of a step; raises NoRunsError without a pair."""
    pairs = checkpointing_pairs(study)
    if not len(pairs):
        raise NoRunsError("The quality study has no setting both with and without checkpointing.")
    gaps = (pairs["validation_bits_per_byte"] - pairs["validation_bits_per_byte_baseline"]).astype(float).abs()
    same = (
        "Recomputing leaves the loss exactly as it was"
        if not gaps.any()
        else f"Recomputing moves the final loss by at most {bits_apart(gaps.max())} bits per byte"
    )
    sentence = f"{same}, in {counted(len(pairs), 'pair')} of runs with the same seed"
    by_mode = {mode: times.typical(rows["added"]) for mode, rows in pairs.groupby("checkpointing", sort=False)}
    known = [
        f"{change(time.middle, time.give)} with {CHECKPOINTING_NAMES[mode]}" for mode, time in by_mode.items() if time
    ]
    timed = f"; step time changes by {listing(known)}" if known else ""
    return " ".join(filter(None, [f"{sentence}{timed}.", times.set_aside(pairs)]))


def _few(names: object, most: int = 4) -> str:
    """The first of many names, and how many more there are."""
    every = list(names)
    more = [] if len(every) <= most else [f"{len(every) - most} more"]
    return listing([*every[:most], *more])
