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
from footprint.report.sections import (
    choices,
    elsewhere,
    introduction,
    loss,
    material,
    method,
    opening,
    peaks,
    several_gpus,
    stacks,
    trial,
)

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
introduction.introduction(report)

# %%
opening.changes(report)

# %%
peaks.ablation(report)

# %%
peaks.estimates(report)

# %%
peaks.phases(report)

# %%
choices.adapters(report)

# %%
choices.checkpointing(report)

# %%
loss.frontier(report)

# %%
loss.details(report)

# %%
trial.claims(report)

# %%
trial.cells(report)

# %%
trial.drill_problems(report)

# %%
elsewhere.what_fits(report)

# %%
several_gpus.how_many(report)

# %%
stacks.in_transformers(report)

# %%
elsewhere.other_devices(report)

# %%
method.limitations(report)

# %%
method.how(report)

# %%
method.provenance(report)

# %%
method.citing(report)

# %%
method.references(report)
