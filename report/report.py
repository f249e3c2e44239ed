# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   title: What fine-tuning costs in memory
# ---

# %%
# The report as a notebook: CSV in, page out. Every number in a sentence is computed in the cell that says it.
from pathlib import Path

from footprint.predict import textbook
from footprint.report import (
    ablation,
    cards,
    devices,
    drills,
    figures,
    figures_choices,
    figures_curves,
    figures_quality,
    figures_timeline,
    findings,
    findings_quality,
    limits,
    results,
    selection,
    study,
    tables,
    tables_quality,
    textbook_cells,
    textbook_claims,
    verdicts,
)
from footprint.report.page import Page
from footprint.report.words import counted, escape, listing, percent, worst

# %% tags=["parameters"]
directory = "../results/ablation/cpu"
experiment = "ablation"
device = "cpu"
renderer = "nbconvert"
reference = "../results/reference"

# %%
page = Page(renderer, Path("references.bib"))
runs = selection.load(Path(directory))
finished = selection.measured(runs)
quality = study.load(Path(directory))

page.facts(
    f"Experiment <strong>{escape(experiment)}</strong> on {escape(device)}",
    listing(escape(name) for name in dict.fromkeys(runs["device_name"].astype(str))),
    f"{len(finished)} of {counted(len(runs), 'run')} finished",
    f"page rendered by {'Quarto' if renderer == 'quarto' else 'nbconvert'}",
)
page.answer(findings.answers(runs, quality))
page.figure(
    "regimes",
    figures.regimes(runs),
    "Bytes live at the instant of the peak: the thick bar as measured, the thin one as predicted from the shapes "
    "alone, the diamond the textbook's total, which leaves activations out.",
)
page.table("answers", tables.answers(runs), "What each regime needs, and how close the estimates come.")
beside_memory = f"what it does to loss and time in {page.see('tbl-study')}, " if quality else ""
page.say(
    f"Every run is in {page.see('tbl-grid')}, {beside_memory}what the textbook gets right and wrong in "
    f"{page.see('tbl-claims')}, and what fits on a card of yours in {page.see('tbl-cards')}."
)

# %%
with page.unless_empty():
    page.table(
        "changes",
        tables.changes(runs),
        "What to change first: from each regime, the single decisions that save most, and their effect on step time.",
    )

# %% [markdown]
# ## The ablation table
#
# The table the project started from, regenerated: the columns are its own, each as the textbook reckons it, as
# predicted, and as measured at the instant of the peak. The last two columns are what it leaves out.

# %%
page.table(
    "ablation",
    ablation.ablation_table(runs),
    f"Memory by the seed's columns: {escape(selection.in_common(selection.headline(runs)))}. "
    "The error is predicted / measured − 1.",
)
page.note(
    "The four buckets are never full together",
    "At the end of forward all activations are live and no gradient is; at the optimizer step it is the other way "
    "round. A column shows what is live at the instant of the peak, so a small Grad or Activations cell is no saving: "
    "it is a bucket that was empty just then.",
)

# %% [markdown]
# ## Buckets at the peak

# %%
page.figure(
    "buckets",
    figures.buckets(runs),
    f"The buckets of {'all runs' if len(runs) <= figures.MOST_ROWS else 'the runs predicted worst'}, thick as measured "
    f"and thin as predicted. All share {escape(selection.in_common(runs))}.",
)

# %%
with page.unless_empty():
    page.figure(
        "accuracy",
        figures.accuracy(runs),
        "Each measured peak against both estimates; on the line an estimate is exact. Both axes are logarithmic.",
    )
    errors = finished["peak_relative_error"].astype(float)
    page.say(
        f"The prediction is exact in {(errors == 0).sum()} of {counted(len(errors), 'run')}; its mean error is "
        f"{percent(errors.abs().mean())}, its worst {percent(worst(errors))}. No constant in it was fitted to a "
        "measurement: every term is the size of a tensor that the step allocates."
    )

# %%
limit = results.memory_limit(Path(directory))
page.table("grid", tables.grid(runs, limit), f"Every run of the experiment ({counted(len(runs), 'run')}).")
if of_limit := limits.finding(runs, limit):
    page.say(of_limit)

# %% [markdown]
# ## Phases
#
# A step has three: forward builds activations, backward consumes them while gradients appear, the optimizer step needs
# all gradients at once. What a run needs is the highest of the three.

# %%
with page.unless_empty():
    page.figure(
        "phases",
        figures.phases(runs),
        "The most bytes live in each phase; the phase that sets the peak in colour, the prediction as a tick.",
    )
    page.table("phases", tables.phases(runs), "The peak of each phase, and how well it was predicted.")

# %%
with page.unless_empty():
    page.table(
        "opinions",
        tables.third_opinion(runs),
        "A third opinion: the largest distance between a phase's measured peak and the two other counts. The "
        "simulation runs the real program and adds up its tensors without an allocator, so it cannot see what a kernel "
        "takes inside one operator; where prediction and measurement agree and it does not, that is the difference.",
    )

# %%
with page.unless_empty():
    timelines = results.timelines(Path(directory), runs)
    page.figure(
        "timeline",
        figures_timeline.timeline(timelines),
        "Live bytes through one training step, the dot at the peak: buckets filled as measured, their boundaries drawn "
        "as predicted. Each phase has a width of its own; within it, a place is a share of the bytes that the phase "
        "allocates and releases, and of neighbouring events the highest is drawn.",
        figures_timeline.data(timelines),
    )

# %% [markdown]
# ## Ranks and targets

# %%
with page.unless_empty():
    page.figure("ranks", figures_choices.ranks(runs), "Peak memory over adapter rank: dots measured, lines predicted.")
    page.table("ranks", tables.by_axis(figures_choices.series(runs, "rank")), "What a rank costs.")

# %%
with page.unless_empty():
    page.figure(
        "targets",
        figures_choices.targets(runs),
        "The buckets by the Linears that carry adapters, thick as measured over thin as predicted.",
    )
    by_targets = tables.by_axis(figures_choices.series(runs, "targets"), "targets")
    page.table("targets", by_targets, "What a choice of targets costs.")

# %% [markdown]
# ## Checkpointing
#
# Saving only some activations and recomputing the rest trades time for memory. The textbook promises a √L-fold
# reduction for about 30 % more compute.

# %%
with page.unless_empty():
    layers = results.layers(Path(directory))
    depths = {layers.get(model) for model in finished["model"]}
    root = None if None in depths or len(depths) != 1 else depths.pop() ** 0.5
    page.figure(
        "checkpointing",
        figures_choices.checkpointing(runs, 1 - 1 / root if root else None, textbook_claims.SLOWDOWN),
        "Activation bytes saved at the peak against step time added, one mark for each pair of runs that differ in "
        "nothing else; dashed, what the textbook claims.",
    )
    page.table(
        "checkpointing",
        tables.checkpointing(runs, layers),
        "Medians over pairs of runs. Where the optimizer step is nearly as high as backward, fewer activations hardly "
        "lower the peak.",
    )

    effects = figures_choices.checkpointing_effects(runs)
    faster = (effects["time_added"] < -0.05).sum()
    if faster:
        page.note(
            "The times were disturbed",
            f"{faster} of {counted(len(effects), 'pair')} took less time with recomputation than without, which it "
            "cannot cause: something else used the machine meanwhile. The bytes are not affected.",
        )

# %% [markdown]
# ## Loss and speed beside memory

# %%
if quality is None:
    page.say(findings_quality.NO_STUDY)
else:
    page.say(
        f"Fine-tuning from one pretrained base: {escape(selection.in_common(quality.settings))}. Losses are of "
        "held-out text, in bits per byte."
    )
    with page.unless_empty():
        page.figure(
            "frontier",
            figures_quality.frontier(quality),
            "Each setting by its peak memory and the validation loss it ends at (the mean over its seeds; where longer "
            "than the mark, the bar reaches from lowest to highest). The area of a mark is the training time. The line "
            "joins the settings that nothing beats in both memory and loss (over the seeds that two settings share); "
            "the others are faded. <em>block</em> and <em>√L</em> are ways of checkpointing. Every setting is in the "
            "table below.",
        )
    page.say(escape(" ".join(findings_quality.sentences(quality))))
    for title, text in findings_quality.notes(quality):
        page.note(title, escape(text))

# %%
if quality:
    page.table(
        "study",
        tables_quality.settings(quality),
        "The settings of the quality study: peaks measured while training, and validation loss in bits per byte before "
        "and after (mean, lowest and highest over the seeds).",
    )
    with page.unless_empty():
        page.table(
            "pace",
            tables_quality.pace(quality),
            "How long a step of each setting takes, in its parts (medians over steps and seeds), and all of them.",
        )

# %%
if quality:
    with page.unless_empty():
        page.figure(
            "curves",
            figures_curves.curves(quality),
            "Validation loss while training, and the training loss under it, each point the mean of the steps around "
            "it; with several seeds their mean.",
        )

# %%
if quality:
    with page.unless_empty():
        page.figure(
            "loss-ranks",
            figures_curves.ranks(quality),
            "What adapter rank does to the final validation loss and to the peak; dashed, full fine-tuning in the same "
            "setting. Bars and the grey band reach from the lowest to the highest seed.",
        )

# %%
if quality:
    with page.unless_empty():
        page.table(
            "bases",
            tables_quality.bases(quality),
            "QLoRA's starting point: the base as it can be stored and computed with, before any fine-tuning. The "
            "weight error is relative to the fp32 base (Frobenius norm, Linears of the blocks); losses are of held-out "
            "text in bits per byte, in brackets how far from those of the fp32 base.",
        )
        if start := findings_quality.starting_point(quality):
            page.say(escape(start))

# %%
if quality:
    with page.unless_empty():
        recomputed = tables_quality.recomputing(quality)
        page.say(escape(findings_quality.recomputing(quality)))
        page.table(
            "recomputing",
            recomputed,
            "What recomputing changes against the run of the same seed without checkpoints: peak saved, final "
            "validation loss (bits per byte), and seconds of each part of the step.",
        )

# %% [markdown]
# ## The textbook on trial
#
# Every quantitative claim of the text the project started from, against what is computed for the same numbers or
# measured here.

# %%
claims = textbook_claims.claims(runs)
kept = sum(claim.verdict in verdicts.GOOD for claim in claims)
units = sum(" not " in claim.verdict and "B" in claim.verdict for claim in claims)
page.say(
    f"Of {counted(len(claims), 'claim')}, {kept} hold or come within {percent(verdicts.CLOSE)}; {units} have the right "
    f"number but write GiB or MiB for what was reckoned in GB or MB; {len(claims) - kept - units} are off."
)
page.table("claims", verdicts.table(claims), "The claims and their verdicts.")

# %%
page.table(
    "cells",
    textbook_cells.cells(runs),
    "The text's ablation table cell by cell: as printed, as its own rule gives it for this model, and at the peak.",
)

# %% [markdown]
# ## Drill problems
#
# The four that the text sets, answered by computation.

# %%
with page.tabs():
    page.tab("A 13B model at rank 16")
    page.say(
        f"With adapters on all Linears N_lora is {drills.adapters_13b():,}: rank × (inputs + outputs) summed over the "
        "seven Linears of 40 blocks. One sequence of 512 tokens, every block checkpointed, on a GPU:"
    )
    page.table("drill-13b", drills.thirteen_billion(), f"LLaMA-13B in three regimes against a {drills.CARD} card.")

    page.tab("Double quantization")
    page.say(
        "One scale per 64 weights, then scales in 8 bits with one outer scale per 256 of them. The saving is at most "
        "what the scales cost before, so half a bit per weight cannot be saved, let alone half a byte."
    )
    page.table("drill-scales", drills.scale_overhead(), "Bits per weight spent on scales.")

    page.tab("Adam's moments in fewer bytes")
    page.table(
        "drill-adam", drills.adam_states(), "Weights, gradients and Adam of LLaMA-7B (rank 8) by the textbook's rule."
    )
    page.say(drills.why_fp32_moments())

    page.tab("When compute is the bottleneck")
    page.say(drills.compute_bound(runs))

# %% [markdown]
# ## What fits on which card

# %%
predicted = cards.predictions()
page.figure(
    "cards",
    cards.figure(predicted),
    "Predicted peak of one sequence over its length, cards as horizontal lines; both axes are logarithmic.",
)
page.table(
    "cards",
    cards.table(predicted),
    "Predicted peak with every block checkpointed, then the longest of the sequences tried that fits each card, in "
    "tokens: without / with checkpointing (batch 1, rank 8 on all Linears, mixed precision). A card also holds the "
    "CUDA context, some hundred MiB, which is not in these numbers.",
)

# %% [markdown]
# ## Several devices

# %%
beside = devices.others(Path(reference) if reference else None, Path(directory))
if not beside:
    page.say("No results of another device lie in the reference folder, so this page shows one device.")
for number, (name, other) in enumerate(beside.items(), start=1):
    with page.unless_empty():
        page.say(f"**{escape(name)}** ({listing(escape(d) for d in dict.fromkeys(other['device_name'].astype(str)))}):")
        page.table(
            f"device-{number}",
            devices.table(runs, other),
            f"Peaks here ({escape(device)}) and there ({escape(name)}).",
        )
        page.say(f"Over the runs finished on both, {devices.agreement(runs, other)}.")
if beside:
    page.note(
        "Differences to expect",
        "Processors of one kind should agree to the byte; others take other scratchpads in half precision. A GPU's "
        "allocator rounds every tensor up to 512 bytes and counts cuBLAS workspaces, and its kernels keep other "
        "statistics and scratch than a CPU's; weights and optimizer state should agree to within that rounding.",
    )

# %% [markdown]
# ## Method

# %%
page.say(
    "Each run is a process of its own: it builds the model, trains a few steps on real text, and records every "
    "allocation and release. The first step is discarded, because the optimizer allocates its state there. The peak of "
    "a phase is the most bytes live at one instant of it; each live byte belongs to the tensor at its address, which "
    "puts it in a bucket: weights (frozen base, adapters, master copies), gradients, optimizer state, and activations, "
    "which is everything else. The four sum to the peak exactly, and a repeated run gives the same bytes.",
    "The prediction is computed from the shapes alone: it lists what each operation of forward, backward and the step "
    "allocates and releases, and takes the highest sum. The textbook column is "
    f"{textbook.TRAINED} bytes per trained parameter {page.cite('micikevicius2017mixed')} plus "
    f"{textbook.FROZEN_HALF:g} (half precision) or {textbook.FROZEN_NF4:g} (NF4) per frozen one, and no "
    "activations. GiB is 2³⁰ bytes, MiB 2²⁰.",
    f"The methods: LoRA {page.cite('hu2021lora')}; QLoRA and NF4 {page.cite('dettmers2023qlora')}; checkpointing in √L "
    f"segments {page.cite('chen2016sublinear')}; 8-bit moments {page.cite('dettmers2021eightbit')}; the LLaMA shapes "
    f"{page.cite('touvron2023llama')}.",
)

# %% [markdown]
# ## Provenance

# %%
page.table("provenance", tables.provenance(runs), "Where the rows come from.")
page.say(results.mixture(runs), results.rerun(experiment, device))
if quality:
    page.say(f"The quality study: {results.mixture(quality.runs)}")
sources = ("measurements", "predictions", "comparison", *(study.COLUMNS if quality else ()))
page.downloads(Path(directory), sources)
page.config(results.config_text(Path(directory)))

# %% [markdown]
# ## References

# %%
page.references()
