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

# The report as a notebook: CSV in, page out. Every number in a sentence is computed in the cell that says it.

# %% tags=["parameters"]
directory = "../results/ablation/cpu"
experiment = "ablation"
device = "cpu"
renderer = "nbconvert"
reference = "../results/reference"

# %%
from pathlib import Path

from footprint import ablation, figures, figures_choices, findings, selection, tables
from footprint.page import Page
from footprint.words import counted, escape, listing, percent

page = Page(renderer, Path("references.bib"))
runs = selection.load(Path(directory))
finished = selection.measured(runs)

page.facts(
    f"Experiment <strong>{escape(experiment)}</strong> on {escape(device)}",
    listing(escape(name) for name in sorted(set(runs["device_name"].astype(str)))),
    f"{len(finished)} of {counted(len(runs), 'run')} finished",
    f"page rendered by {'Quarto' if renderer == 'quarto' else 'nbconvert'}",
)
page.answer(findings.answers(runs))
page.figure(
    "regimes",
    figures.regimes(runs),
    "Bytes live at the instant of the peak: the thick bar as measured, the thin one as predicted from the shapes alone, "
    "the diamond the textbook's total, which leaves activations out.",
)
page.table("answers", tables.answers(runs), "What each regime needs, and how close the estimates come.")
