"""The textbook on trial: every quantitative claim of the original text beside what is computed or measured."""

from collections.abc import Iterator
from itertools import chain

import pandas as pd

from footprint.predict.capacity import of_size
from footprint.predict.parameters import NF4_BLOCK, nf4_bytes, resident
from footprint.predict.prediction import predict
from footprint.predict.textbook import FROZEN_HALF, TRAINED
from footprint.report.page.empty import NoRunsError
from footprint.report.page.words import change, listing, percent
from footprint.report.reading.effects import checkpointing_effects
from footprint.report.reading.selection import REGIME_NAMES, alike, headline, measured, source
from footprint.report.reading.several_gpus import Sharded
from footprint.report.reading.times import typical
from footprint.report.textbook.several_gpus import cards
from footprint.report.textbook.verdicts import GOOD, Claim, judged, judged_factor, ratio_claim, size_claim
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.spec.units import format_bytes, parse_bytes

N_7B, N_LORA = 7e9, 19e6
"""The parameter counts the seed reckons with: LLaMA-7B, and its adapters of rank 8."""

RANK_13B = 16
"""The rank of the seed's drill on a 13B model."""

SLOWDOWN = 0.30
"""The compute that checkpointing costs, according to the seed."""

_MATRIX = 4096 * 4096
"""Weights of one square matrix of LLaMA-7B, for bytes per weight."""


def llama(name: str, regime: str, **axes: object) -> RunSpec:
    """A LLaMA shape on a GPU, one sequence of 512 tokens, every block recomputed unless `axes` says otherwise."""
    usual = {"rank": 8, "batch": 1, "seq": 512, "checkpointing": "block"}
    return RunSpec(model=PRESETS[f"llama-{name}"], regime=regime, device="cuda", **usual | axes)


def peak(spec: RunSpec) -> int:
    """Predicted peak in bytes."""
    return predict(spec)["peak_bytes"]


def activations(spec: RunSpec) -> int:
    """Predicted bytes live at the end of forward beyond weights and optimizer state: what backward will need."""
    row = predict(spec)
    return row["forward_peak_bytes"] - row["weights_bytes"] - row["optimizer_bytes"]


def claims(runs: pd.DataFrame, rehearsed: Sharded | None = None) -> list[Claim]:
    """Every claim, in the order of the seed; those about measurements use `runs` where it has what they need.

    `rehearsed` is what several cards hold, where that is known.
    """
    return list(chain(_full(runs, rehearsed), _lora(runs), _qlora(), _checkpointing(runs), _paging()))


def _full(runs: pd.DataFrame, rehearsed: Sharded | None) -> Iterator[Claim]:
    topic = "Full fine-tuning"
    spec = llama("7b", "full", precision="mixed")
    at_rest = resident(spec)
    per_parameter = (at_rest.weights + at_rest.gradients + at_rest.optimizer) / at_rest.trainable
    yield Claim(
        topic=topic,
        quote="16 N bytes of weights, gradients and Adam",
        found=f"{per_parameter:.2f} N",
        verdict=judged(TRAINED, per_parameter),
        remark="Exact to the byte, with 4 more bytes per tensor for Adam's step count. " + _gradients_at_peak(runs),
    )
    own = format_bytes(TRAINED * at_rest.trainable)
    exact = f"LLaMA-7B has {at_rest.trainable / 1e9:.2f}e9 parameters, for which it is {own}."
    yield size_claim(topic, "7B: 16 × 7e9 = 112 GiB", "112 GiB", TRAINED * N_7B, exact)
    low, high = (activations(llama("7b", "full", batch=batch, seq=2048, checkpointing="none")) for batch in (1, 4))
    inside = low <= parse_bytes("40 GiB") and high >= parse_bytes("20 GiB")
    yield Claim(
        topic=topic,
        quote="activations: easily another 20–40 GiB for sensible batch sizes",
        found=f"{format_bytes(low)} to {format_bytes(high)}",
        verdict="plausible" if inside else judged(parse_bytes("30 GiB"), (low + high) / 2),
        remark="Predicted for 1 to 4 sequences of 2,048 tokens without checkpointing; the two ranges overlap.",
    )
    yield cards(topic, N_7B, rehearsed)


def _gradients_at_peak(runs: pd.DataFrame) -> str:
    """What the measured run says about gradients and the peak."""
    full = measured(headline(runs))
    full = full[(full["regime"] == "full").to_numpy()]
    if not len(full):
        return "All of it is live together only at the optimizer step."
    run = full.iloc[0]
    share = run["gradients_bytes_measured"] / (2 * run["trainable_parameters_measured"])
    exist = "all gradients exist" if share > 0.99 else f"only {percent(share)} of the gradients exist"
    return f"At the peak here ({run['peak_phase_measured']}) {exist}."


def _lora(runs: pd.DataFrame) -> Iterator[Claim]:
    topic = "LoRA"
    adapters = resident(llama("7b", "lora")).trainable
    yield Claim(
        topic=topic,
        quote="LLaMA-7B, r = 8: N_lora ≈ 19M",
        found=f"{adapters / 1e6:.2f}M",
        verdict=judged(N_LORA, adapters),
        remark="Rank × (inputs + outputs) over the seven Linears of 32 blocks.",
    )
    base, trained = FROZEN_HALF * N_7B, TRAINED * N_LORA
    yield size_claim(topic, "base: 2 × 7e9 = 14 GiB", "14 GiB", base)
    yield size_claim(topic, "LoRA buckets: 16 × 19e6 = 304 MiB", "304 MiB", trained)
    yield size_claim(topic, "total (no activations): ~14.3 GiB", "14.3 GiB", base + trained)
    with_activations = peak(llama("7b", "full")) / peak(llama("7b", "lora"))
    remark = f"With activations, 512 tokens and checkpointing: {with_activations:.1f}×."
    yield ratio_claim(topic, "~8× less than full FT", 8, TRAINED * N_7B / (base + trained), remark)
    yield _same_activations(topic, runs)


def _same_activations(topic: str, runs: pd.DataFrame) -> Claim:
    full, everywhere, narrow = (
        activations(llama("7b", regime, checkpointing="none", seq=2048, **axes))
        for regime, axes in (("full", {}), ("lora", {}), ("lora", {"targets": "qv"}))
    )
    ratio = everywhere / full
    rows = measured(headline(runs)).set_index("regime")
    kept = rows["forward_peak_bytes_measured"] - rows["weights_bytes_measured"] - rows["optimizer_bytes_measured"]
    here = (
        f" {source(rows).capitalize()} here: {kept['lora'] / kept['full']:.2f}×."
        if {"full", "lora"} <= set(kept.index)
        else ""
    )
    return Claim(
        topic=topic,
        quote="activations: same as full FT",
        found=f"{ratio:.2f}× on all Linears, {narrow / full:.2f}× on q and v",
        verdict=judged(1, ratio) if judged(1, narrow / full) in GOOD else "depends on targets",
        remark="A frozen Linear keeps its input only when an adapter needs it." + here,
    )


def _qlora() -> Iterator[Claim]:
    topic = "QLoRA"
    base, trained = 0.56 * N_7B, TRAINED * N_LORA
    per_weight = nf4_bytes(_MATRIX, "nf4") / _MATRIX
    yield Claim(
        topic=topic,
        quote="frozen base: ~0.56 N bytes",
        found=f"{per_weight:.4f} N",
        verdict=judged(0.56, per_weight),
        remark="Of the quantized Linears; embeddings, head, norms and biases stay in half precision.",
    )
    half, quantized = (resident(llama("7b", regime)).frozen_base for regime in ("lora", "qlora"))
    remark = f"Whole LLaMA-7B base, embeddings included: {half / quantized:.2f}×."
    yield ratio_claim(topic, "3.6× smaller than fp16", 3.6, FROZEN_HALF / per_weight, remark)
    scale = (per_weight - 0.5) * NF4_BLOCK
    yield Claim(
        topic=topic,
        quote="scales: 4 × N/64 = N/16 bytes (one fp16 scale per block)",
        found=f"{scale:.0f} bytes per scale",
        verdict="holds" if round(scale) == 2 else "bytes right, name wrong",
        remark="bitsandbytes keeps the absmax in fp32; an fp16 scale would be 2 × N/64 = N/32.",
    )
    yield size_claim(topic, "base (NF4): 0.56 × 7e9 = 3.9 GiB", "3.9 GiB", base)
    yield size_claim(topic, "total (no activations): ~4.2 GiB", "4.2 GiB", base + trained)
    full, lora, qlora = (peak(llama("7b", regime)) for regime in ("full", "lora", "qlora"))
    yield ratio_claim(
        topic,
        "~27× less than full FT",
        27,
        TRAINED * N_7B / (base + trained),
        f"With activations: {full / qlora:.0f}×.",
    )
    yield ratio_claim(
        topic,
        "~3.3× less than LoRA fp16",
        3.3,
        FROZEN_HALF * N_7B / (base + trained),
        f"The lesson compares LoRA's base alone with QLoRA's total; with activations: {lora / qlora:.1f}×.",
    )
    thirteen = llama("13b", "qlora", rank=RANK_13B)
    yield _fits("a 24 GiB card fits QLoRA of a 13B model with room for activations", "24 GiB", thirteen)
    yield _double_quantization(topic)
    double = llama("7b", "qlora", quantization="nf4-double")
    yield _fits("together: a 7B model fine-tunes in < 6 GiB", "6 GiB", double)
    yield _fits("a 7B model fits in 4 GiB with QLoRA", "4 GiB", double)


def _fits(quote: str, limit: str, spec: RunSpec) -> Claim:
    row, card = predict(spec), of_size(parse_bytes(limit))
    room = card.room - card.taken(row)
    verb = f"{format_bytes(abs(room))} {'left' if room >= 0 else 'too much'} of {limit}"
    return Claim(
        topic="QLoRA",
        quote=quote,
        found=f"{format_bytes(row['peak_bytes'])}, on the card {format_bytes(row['process_peak_bytes'])}, {verb}",
        verdict="holds" if room >= 0 else "does not fit",
        remark=f"Predicted: rank {spec.rank}, {spec.quantization}, one sequence of {spec.seq} tokens, checkpointing. "
        "On the card are the allocator's cache and the CUDA context as well.",
    )


def _double_quantization(topic: str) -> Claim:
    saved = (nf4_bytes(_MATRIX, "nf4") - nf4_bytes(_MATRIX, "nf4-double")) / _MATRIX
    return Claim(
        topic=topic,
        quote="double quantization saves another ~0.5 bytes per weight",
        found=f"{saved:.3f} bytes = {8 * saved:.2f} bits",
        verdict=judged(0.5, saved),
        remark="All scales together are half a bit per weight, so no more than that can be saved.",
    )


def _checkpointing(runs: pd.DataFrame) -> Iterator[Claim]:
    topic = "Checkpointing"
    try:
        effects = checkpointing_effects(runs)
    except NoRunsError:
        return
    yield from _root_of_layers(topic, effects)
    yield _extra_forward(topic, effects)
    yield from _relative_footprint(topic, runs)


def _extra_forward(topic: str, effects: pd.DataFrame) -> Claim:
    """The claim is of compute, which follows from what a backward computes; time is another matter."""
    every, frozen = 1 / (1 + 2), 1 / (1 + 1)
    by_regime = {name: typical(pairs["added"]) for name, pairs in effects.groupby("regime", sort=False)}
    timed = [f"{change(time.middle, time.give)} in {REGIME_NAMES[name]}" for name, time in by_regime.items() if time]
    here = f" Step time here, which is not compute: {listing(timed)}." if timed else ""
    return Claim(
        topic=topic,
        quote="a single extra forward pass, ~30 % more compute",
        found=f"{percent(every, signed=True)} in full FT, {percent(frozen, signed=True)} where the base is frozen",
        verdict="of full FT only" if judged(SLOWDOWN, every) in GOOD else judged(SLOWDOWN, every),
        remark="A backward computes as much as two forwards where every weight has a gradient, and as much as one "
        f"where the base has none.{here}",
    )


def _root_of_layers(topic: str, effects: pd.DataFrame) -> Iterator[Claim]:
    rows = effects[(effects["checkpointing"] == "sqrt").to_numpy() & effects["model"].isin(PRESETS).to_numpy()]
    for model, group in rows.groupby("model", sort=False):
        expected, found = PRESETS[model].layers ** 0.5, float(group["activations_factor"].median())
        yield Claim(
            topic=topic,
            quote="~√L reduction in activation memory",
            found=f"{found:.1f}× ({model}: √{PRESETS[model].layers} = {expected:.1f})",
            verdict=judged_factor(expected, found),
            remark="√L segments keep √L boundaries and one segment of √L blocks: the constant is not 1.",
        )


def _relative_footprint(topic: str, runs: pd.DataFrame) -> Iterator[Claim]:
    """Whether full / LoRA / QLoRA keep their proportions once checkpointing is on."""
    rows = measured(headline(runs))
    twins = [alike(measured(runs), run, but=["checkpointing"]) for _, run in rows.iterrows()]
    tables = [twin.set_index("checkpointing")["peak_bytes_measured"].astype(float) for twin in twins]
    if len(rows) < 2 or not all({"none", "block"} <= set(peaks.index) for peaks in tables):
        return
    before, after = (tables[0][mode] / tables[-1][mode] for mode in ("none", "block"))
    names = f"{REGIME_NAMES[rows['regime'].iloc[0]]} / {REGIME_NAMES[rows['regime'].iloc[-1]]}"
    yield Claim(
        topic=topic,
        quote="doesn't change the relative footprint of the three regimes",
        found=f"{names}: {before:.1f}× without, {after:.1f}× with",
        verdict=judged(before, after) if judged(before, after) in GOOD else "it does",
        remark="Activations are common to all regimes, so taking them away widens the gap.",
    )


def _paging() -> Iterator[Claim]:
    rows = {rank: predict(llama("70b", "qlora", rank=rank)) for rank in (8, 64)}
    decides = [
        f"{card} at rank {rank}"
        for card in ("40 GiB", "80 GiB")
        for rank, row in rows.items()
        if row["reserved_peak_bytes"] - row["optimizer_bytes"]
        <= of_size(parse_bytes(card)).room
        < row["reserved_peak_bytes"]
    ]
    yield Claim(
        topic="Paging",
        quote="70B QLoRA: paged Adam makes the difference between fitting on one A100 and not",
        found="; ".join(
            f"rank {rank}: {format_bytes(row['process_peak_bytes'])} on the card, of which Adam "
            f"{format_bytes(row['optimizer_bytes'])}"
            for rank, row in rows.items()
        ),
        verdict=f"holds on {listing(decides)}" if decides else "not the deciding part",
        remark="One sequence of 512 tokens, every block checkpointed, on A100s of 40 and of 80 GiB.",
    )
