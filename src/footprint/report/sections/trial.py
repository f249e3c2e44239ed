"""The textbook on trial: its claims, its table, its drill problems."""

from collections.abc import Callable

from footprint.predict.textbook import TRAINED
from footprint.report.page.words import counted, percent
from footprint.report.sections.material import Material, of_minigpt
from footprint.report.sentences import titles
from footprint.report.textbook import drills, verdicts
from footprint.report.textbook.cells import cells as table_of_cells
from footprint.report.textbook.claims import N_7B
from footprint.report.textbook.claims import claims as claims_on_trial
from footprint.spec.units import format_bytes

ON_A_GPU = (
    "What is said of LLaMA models was not measured: it is predicted for one NVIDIA GPU, and rehearsed for several. "
    "What is said of the runs of this page was {source}."
)


@of_minigpt
def claims(report: Material) -> None:
    """Every quantitative claim and its verdict."""
    page, found = report.page, claims_on_trial(report.runs, report.several_gpus)
    kept, units, off = verdicts.tally(found)
    source = " or ".join(sorted(set(report.runs["source"])))
    page.section("trial", titles.trial(found), ON_A_GPU.format(source=source))
    page.say(
        "The lesson that this project started from makes quantitative claims about full fine-tuning, LoRA and QLoRA. "
        f"Of {counted(len(found), 'claim')}, {kept} hold, come within {percent(verdicts.CLOSE)} or are plausible; "
        f"{units} have the right number but write GiB or MiB for what was reckoned in GB or MB; "
        f"{off} are off. Its table is judged cell by cell in {page.see('tbl-cells')}, and its four problems are "
        "answered below."
    )
    page.table("claims", verdicts.table(found), "The claims and their verdicts.")


@of_minigpt
def cells(report: Material) -> None:
    """The text's table, cell by cell."""
    page, runs = report.page, report.runs
    with page.fold("The lesson's table, cell by cell"):
        page.table(
            "cells",
            table_of_cells(runs),
            "The lesson's ablation table: as printed, as its own rule gives it for this model, and at the peak.",
        )


@of_minigpt
def drill_problems(report: Material) -> None:
    """The four problems it sets, answered, each folded away under its question."""
    for title, solve in (
        ("Drill 1: does a 13B model with adapters of rank 16 fit 24 GiB?", _thirteen_billion),
        ("Drill 2: what does double quantization save?", _scales),
        ("Drill 3: what if Adam's moments took fewer bytes?", _moments),
        ("Drill 4: is checkpointing worth it where compute is the bottleneck?", _compute_bound),
    ):
        _drill(report, title, solve)


def _drill(report: Material, title: str, solve: Callable[[Material], None]) -> None:
    with report.page.fold(title):
        solve(report)


def _thirteen_billion(report: Material) -> None:
    page = report.page
    page.say(
        "*Adapters of rank 16 on every Linear of a 13B model: how many parameters are they, what do the three "
        "regimes need, and does it fit 24 GiB?*",
        f"They are {drills.adapters_13b():,} parameters: rank × (inputs + outputs) summed over the seven Linears of 40 "
        "blocks. One sequence of 512 tokens, every block checkpointed, on a GPU:",
    )
    page.table(
        "drill-13b",
        drills.thirteen_billion(),
        f"LLaMA-13B in three regimes against a {drills.CARD} card, predicted. The allocator's cache and the CUDA "
        "context need room as well.",
    )


def _scales(report: Material) -> None:
    page = report.page
    page.say(
        "*What do the scales cost per weight before and after they are quantized themselves, and does that save "
        "half a bit?*",
        "One scale per 64 weights, then scales in 8 bits with one outer scale per 256 of them. The saving is at "
        "most what the scales cost before, so half a bit per weight cannot be saved, let alone half a byte.",
    )
    page.table("drill-scales", drills.scale_overhead(), "Bits per weight spent on scales.")


def _moments(report: Material) -> None:
    page = report.page
    parameters = drills.parameters_7b()
    page.say(
        "*How does the total change if Adam's state is kept in half precision or in eight bits, and why is it not?*"
    )
    page.table(
        "drill-adam",
        drills.adam_states(),
        "Weights, gradients and Adam of LLaMA-7B (rank 8) by the textbook's rule, for its own "
        f"{parameters:,} parameters; the claims above reckon with {N_7B / 1e9:g}e9, and so with "
        f"{format_bytes(TRAINED * N_7B)} where this table has {format_bytes(TRAINED * parameters)}.",
    )
    page.say(drills.why_fp32_moments())


def _compute_bound(report: Material) -> None:
    report.page.say(
        "*Checkpointing costs about 30 % more compute. What does that do to a run of ten hours that is limited by "
        "compute, and is it worth it?*",
        drills.compute_bound(report.runs),
    )
