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
# The report's table of contents: a cell shows one thing. What it shows, and in which words, is in footprint.report.
from footprint.report.sections import choices, elsewhere, loss, material, method, opening, peaks, stacks, trial

# %% tags=["parameters"]
directory = "../results/ablation/cpu"
experiment = "ablation"
device = "cpu"
renderer = "nbconvert"
reference = "../results/reference"

# %%
report = material.load(directory, experiment=experiment, device=device, renderer=renderer, reference=reference)
opening.answer(report)

# %%
opening.changes(report)

# %%
opening.alternatives(report)

# %% [markdown]
# ## The ablation table
#
# The table the project started from, regenerated: the columns are its own, each as the textbook reckons it, as
# predicted, and as found at the instant of the peak. The last two columns are what it leaves out.

# %%
peaks.ablation(report)

# %% [markdown]
# ## Buckets at the peak

# %%
peaks.buckets(report)

# %%
peaks.accuracy(report)

# %%
peaks.grid(report)

# %% [markdown]
# ## Phases
#
# A step has three: forward builds activations, backward consumes them while gradients appear, the optimizer step needs
# all gradients at once. What a run needs is the highest of the three.

# %%
peaks.phases(report)

# %%
peaks.opinions(report)

# %%
peaks.timeline(report)

# %% [markdown]
# ## Ranks and targets

# %%
choices.ranks(report)

# %%
choices.targets(report)

# %% [markdown]
# ## Checkpointing
#
# Saving only some activations and recomputing the rest trades time for memory. The textbook promises a √L-fold
# reduction for about 30 % more compute.

# %%
choices.checkpointing(report)

# %% [markdown]
# ## Loss and speed beside memory

# %%
loss.frontier(report)

# %%
loss.settings(report)

# %%
loss.curves(report)

# %%
loss.ranks(report)

# %%
loss.starting_point(report)

# %%
loss.recomputing(report)

# %% [markdown]
# ## The textbook on trial
#
# Every quantitative claim of the text the project started from (a lesson on the memory footprint of full fine-tuning,
# LoRA and QLoRA), against what is computed for the same numbers or found here.

# %%
trial.claims(report)

# %%
trial.cells(report)

# %% [markdown]
# ## Drill problems
#
# The four problems that the text sets, answered by computation.

# %%
trial.drill_problems(report)

# %% [markdown]
# ## What fits on which card

# %%
elsewhere.what_fits(report)

# %% [markdown]
# ## The same run in Transformers

# %%
stacks.in_transformers(report)

# %%
stacks.here(report)

# %% [markdown]
# ## Several devices

# %%
elsewhere.other_devices(report)

# %% [markdown]
# ## Method

# %%
method.how(report)

# %% [markdown]
# ## Provenance

# %%
method.provenance(report)

# %% [markdown]
# ## References

# %%
method.references(report)
