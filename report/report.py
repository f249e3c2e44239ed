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

from footprint import capacity
from footprint.predict import textbook
from footprint.report import (
    ablation,
    alternatives,
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
from footprint.units import format_bytes

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
beside = devices.others(Path(reference) if reference else None, Path(directory))
on_a_gpu = devices.measured_on_a_gpu([runs, *beside.values()])

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
    "Bytes live at the instant of the peak: the thick bar as measured, the thin one as predicted without training, "
    "the diamond the textbook's total, which leaves activations out.",
)
page.table("answers", tables.answers(runs), "What each regime needs, and how close the estimates come.")
beside_memory = f"what it does to the loss in {page.see('tbl-study')}, " if quality else ""
page.say(
    f"Every run is in {page.see('tbl-grid')}, {beside_memory}what the textbook gets right and wrong in "
    f"{page.see('tbl-claims')}, and what fits on a card of yours in {page.see('tbl-cards')}."
)
page.glossary(
    {
        "Full FT, LoRA, QLoRA": "Train every weight; train two thin matrices (an adapter) beside each frozen one; the "
        "same with the frozen ones stored in four bits (NF4).",
        "r, rank": "The inner width of an adapter.",
        "Linears, targets": "The matrices of a block, and which of them carry an adapter: all, those of attention, or "
        "its queries and values (qv).",
        "Checkpoints": "What forward keeps so that backward can recompute the rest: nothing is recomputed, every "
        "block is (block), or about √L segments of L blocks are.",
        "Bucket": "What a live byte is: weights (adapters and master copies with them), gradients, optimizer state "
        "(Adam's two moments), or activations, which is everything else.",
        "Mixed, amp, bf16, fp32": "How many bytes weights, gradients and moments have; see the table under Method.",
        "Textbook": "16 bytes per trained parameter, 2 or 0.5625 per frozen one, no activations.",
        "Bits per byte": "The loss of predicting text: bits needed for each byte of it; lower is better.",
    }
)

# %%
with page.unless_empty():
    page.table(
        "changes",
        tables.changes(runs),
        "What to change first: from each regime, the single decisions that save most, and their effect on step time.",
    )

# %%
with page.unless_empty():
    page.table(
        "alternatives",
        alternatives.table(Path(directory), runs),
        "What else could be changed: decisions that were not measured here, predicted in the same way. "
        "<code>footprint predict</code> answers for any other setting, <code>footprint fit</code> searches a card.",
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
    off = (
        f"; its mean error is {percent(errors.abs().mean())}, its worst {percent(worst(errors))}"
        if errors.any()
        else ""
    )
    page.say(
        f"The prediction is exact in {(errors == 0).sum()} of {counted(len(errors), 'run')}{off}. No constant in it "
        "was fitted to a measurement: every term is the size of a tensor that the step allocates, or of the memory a "
        "kernel takes for itself."
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
        "as predicted (of the optimizer step only the height). Each phase has a width of its own; within it, a place "
        "is a share of the bytes that the phase allocates and releases; of neighbouring events the highest is drawn.",
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
        "Medians over pairs of runs (of times, over those that were not disturbed). Where the optimizer step is nearly "
        "as high as backward, fewer activations hardly lower the peak.",
    )

    if left_out := figures_choices.set_aside(figures_choices.checkpointing_effects(runs)):
        page.note("Some times were disturbed", left_out)

# %% [markdown]
# ## Loss and speed beside memory

# %%
if quality is None:
    page.say(findings_quality.NO_STUDY)
else:
    page.say(
        f"Fine-tuning from one pretrained base: {escape(selection.in_common(quality.settings))}. "
        f"{results.study_story(Path(directory))} Losses are of held-out text, in bits per byte."
    )
    with page.unless_empty():
        page.figure(
            "frontier",
            figures_quality.frontier(quality),
            "Each setting by its peak memory and the validation loss it ends at (the mean over its seeds; where longer "
            "than the mark, the bar reaches from lowest to highest). The area of a mark is the time of all steps. The "
            "line joins the settings that nothing beats in both memory and loss (over the seeds that two settings "
            "share); the others are faded. <em>block</em> and <em>√L</em> are ways of checkpointing. Every setting is "
            "in the table below.",
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
        "and after (mean, lowest and highest over the seeds). A setting with one seed is to be compared with that seed "
        "of the others, which is in the CSV of all runs.",
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
            "Validation loss while training (marked), and the loss of the training text (thin), each point the mean of "
            "the steps around it; with several seeds their mean.",
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
            "text in bits per byte, in brackets how far from those of the fp32 base, at the length of sequence the "
            "base was pretrained with.",
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
# Every quantitative claim of the text the project started from (a lesson on the memory footprint of full fine-tuning,
# LoRA and QLoRA), against what is computed for the same numbers or measured here.

# %%
claims = textbook_claims.claims(runs)
kept = sum(claim.verdict in verdicts.GOOD for claim in claims)
units = sum(" not " in claim.verdict and "B" in claim.verdict for claim in claims)
page.say(
    f"Of {counted(len(claims), 'claim')}, {kept} hold, come within {percent(verdicts.CLOSE)} or are plausible; {units} "
    f"have the right number but write GiB or MiB for what was reckoned in GB or MB; {len(claims) - kept - units} are "
    "off."
)
if not on_a_gpu:
    page.note(
        "Figures for a GPU are predictions that no GPU has checked",
        "What this page says of LLaMA models and of cards is predicted for CUDA from PyTorch's sources. The runs it "
        "shows were measured on CPUs only, so no measurement stands behind those figures yet.",
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
# The four problems that the text sets, answered by computation.

# %%
with page.tabs():
    page.tab("A 13B model at rank 16")
    page.say(
        "*Adapters of rank 16 on every Linear of a 13B model: how many parameters are they, what do the three regimes "
        "need, and does it fit 24 GiB?*",
        f"N_lora is {drills.adapters_13b():,}: rank × (inputs + outputs) summed over the "
        "seven Linears of 40 blocks. One sequence of 512 tokens, every block checkpointed, on a GPU:",
    )
    page.table("drill-13b", drills.thirteen_billion(), f"LLaMA-13B in three regimes against a {drills.CARD} card.")

    page.tab("Double quantization")
    page.say(
        "*What do the scales cost per weight before and after they are quantized themselves, and does that save half a "
        "bit?*",
        "One scale per 64 weights, then scales in 8 bits with one outer scale per 256 of them. The saving is at most "
        "what the scales cost before, so half a bit per weight cannot be saved, let alone half a byte.",
    )
    page.table("drill-scales", drills.scale_overhead(), "Bits per weight spent on scales.")

    page.tab("Adam's moments in fewer bytes")
    page.say(
        "*How does the total change if Adam's state is kept in half precision or in eight bits, and why is it not?*"
    )
    page.table(
        "drill-adam", drills.adam_states(), "Weights, gradients and Adam of LLaMA-7B (rank 8) by the textbook's rule."
    )
    page.say(drills.why_fp32_moments())

    page.tab("When compute is the bottleneck")
    page.say(
        "*Checkpointing costs about 30 % more compute. What does that do to a run of ten hours that is limited by "
        "compute, and is it worth it?*",
        drills.compute_bound(runs),
    )

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
    "Predicted peak with every block checkpointed, then the longest of the sequences tried "
    f"({listing(f'{seq:,}' for seq in cards.SEQUENCES)} tokens) that a card holds: without / with checkpointing (batch "
    f"1, rank 8 on all Linears, mixed precision). Of each card {percent(capacity.DRIVER_SHARE)} are left to its driver "
    f"and {format_bytes(capacity.LARGEST_CONTEXT)} to the CUDA context; what the allocator sets aside is not counted.",
)
page.say(
    cards.without_masters(),
    "For other models, batches and cards ask <code>footprint predict</code> and <code>footprint fit</code>.",
)

# %% [markdown]
# ## Several devices

# %%
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
        kind = "The same kind of device, so this shows repeatability. " if devices.same_kind(runs, other) else ""
        page.say(f"{kind}Over the runs finished on both, {devices.agreement(runs, other)}.")
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
    "The prediction is computed without training: it lists what each operation of forward, backward and the step "
    "allocates and releases, and takes the highest sum. It follows from the shapes, the number of threads, and what "
    "PyTorch's kernels take for themselves; in half precision on a CPU the latter is known for oneDNN's AVX-512 bf16 "
    "kernels only, so other processors will be off by their scratch memory. The textbook column is "
    f"{textbook.TRAINED} bytes per trained parameter {page.cite('micikevicius2017mixed')} plus "
    f"{textbook.FROZEN_HALF:g} (half precision) or {textbook.FROZEN_NF4:g} (NF4) per frozen one, and no "
    "activations. GiB is 2³⁰ bytes, MiB 2²⁰.",
    f"The methods: LoRA {page.cite('hu2021lora')}; QLoRA and NF4 {page.cite('dettmers2023qlora')}; checkpointing in √L "
    f"segments {page.cite('chen2016sublinear')}; 8-bit moments {page.cite('dettmers2021eightbit')}; the LLaMA shapes "
    f"{page.cite('touvron2023llama')} {page.cite('touvron2023llama2')}.",
)
page.table("precisions", tables.precisions(), "What each precision keeps, in bytes per element.")
page.say(
    "In mixed precision every parameter is stepped alone, through its fp32 master copy, so that one parameter's fp32 "
    "gradient is live at a time; in the others PyTorch's AdamW steps all together and makes one more tensor for each."
)

# %% [markdown]
# ## Provenance

# %%
page.table("provenance", tables.provenance(runs), "Where the rows come from.")
page.say(results.mixture(runs), results.rerun(Path(directory), experiment, device))
if quality:
    page.say(f"The quality study: {results.mixture(quality.runs)}")
sources = ("measurements", "predictions", "comparison", *(study.COLUMNS if quality else ()))
page.downloads(Path(directory), sources)
page.config(results.config_text(Path(directory)))

# %% [markdown]
# ## References

# %%
page.references()
