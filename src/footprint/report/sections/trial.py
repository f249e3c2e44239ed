"""The textbook on trial: its claims, its table, its drill problems."""

from footprint.report.page.words import counted, percent
from footprint.report.sections.material import Material
from footprint.report.textbook import drills, verdicts
from footprint.report.textbook.cells import cells as table_of_cells
from footprint.report.textbook.claims import claims as claims_on_trial


def claims(report: Material) -> None:
    """Every quantitative claim and its verdict."""
    page, found = report.page, claims_on_trial(report.runs)
    kept = sum(claim.verdict in verdicts.GOOD for claim in found)
    units = sum(" not " in claim.verdict and "B" in claim.verdict for claim in found)
    page.say(
        f"Of {counted(len(found), 'claim')}, {kept} hold, come within {percent(verdicts.CLOSE)} or are plausible; "
        f"{units} have the right number but write GiB or MiB for what was reckoned in GB or MB; "
        f"{len(found) - kept - units} are off."
    )
    if not report.on_a_gpu:
        page.note(
            "Figures for a GPU are predicted or rehearsed",
            "What this page says of LLaMA models and of cards is predicted for CUDA. Such predictions were held "
            "against rehearsals of random runs on a T4, an A100 and an H100, and were exact to the byte. No GPU has "
            "checked either, except a T4 on which other people measured. Runs that were measured, were measured on "
            "CPUs.",
        )
    page.table("claims", verdicts.table(found), "The claims and their verdicts.")


def cells(report: Material) -> None:
    """The text's table, cell by cell."""
    page, runs = report.page, report.runs
    page.table(
        "cells",
        table_of_cells(runs),
        "The text's ablation table cell by cell: as printed, as its own rule gives it for this model, and at the peak.",
    )


def drill_problems(report: Material) -> None:
    """The four problems it sets, answered."""
    page, runs = report.page, report.runs
    with page.tabs():
        page.tab("A 13B model at rank 16")
        page.say(
            "*Adapters of rank 16 on every Linear of a 13B model: how many parameters are they, what do the three "
            "regimes need, and does it fit 24 GiB?*",
            f"N_lora is {drills.adapters_13b():,}: rank × (inputs + outputs) summed over the "
            "seven Linears of 40 blocks. One sequence of 512 tokens, every block checkpointed, on a GPU:",
        )
        page.table("drill-13b", drills.thirteen_billion(), f"LLaMA-13B in three regimes against a {drills.CARD} card.")

        page.tab("Double quantization")
        page.say(
            "*What do the scales cost per weight before and after they are quantized themselves, and does that save "
            "half a bit?*",
            "One scale per 64 weights, then scales in 8 bits with one outer scale per 256 of them. The saving is at "
            "most what the scales cost before, so half a bit per weight cannot be saved, let alone half a byte.",
        )
        page.table("drill-scales", drills.scale_overhead(), "Bits per weight spent on scales.")

        page.tab("Adam's moments in fewer bytes")
        page.say(
            "*How does the total change if Adam's state is kept in half precision or in eight bits, and why is it not?*"
        )
        page.table(
            "drill-adam",
            drills.adam_states(),
            "Weights, gradients and Adam of LLaMA-7B (rank 8) by the textbook's rule.",
        )
        page.say(drills.why_fp32_moments())

        page.tab("When compute is the bottleneck")
        page.say(
            "*Checkpointing costs about 30 % more compute. What does that do to a run of ten hours that is limited by "
            "compute, and is it worth it?*",
            drills.compute_bound(runs),
        )
