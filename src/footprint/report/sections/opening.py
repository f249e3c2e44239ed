"""The first screen: the answer, what to change first, and what else could be changed."""

from footprint.report.figures import memory as figures
from footprint.report.page.words import counted, escape, listing
from footprint.report.reading.selection import source
from footprint.report.sections.material import Material, unless_empty
from footprint.report.sentences import findings
from footprint.report.tables import alternatives as decisions
from footprint.report.tables import runs as tables


def answer(report: Material) -> None:
    """The findings, the regimes at a glance, and what the words mean."""
    page, runs, quality = report.page, report.runs, report.quality
    page.facts(
        f"Experiment <strong>{escape(report.experiment)}</strong> on {escape(report.device)}",
        listing(escape(name) for name in dict.fromkeys(runs["device_name"].astype(str))),
        f"{len(report.finished)} of {counted(len(runs), 'run')} finished",
        f"page rendered by {'Quarto' if report.renderer == 'quarto' else 'nbconvert'}",
    )
    page.answer(findings.answers(runs, quality))
    page.figure(
        "regimes",
        figures.regimes(runs),
        f"Bytes live at the instant of the peak: the thick bar as {source(runs)}, the thin one as predicted without "
        "training, the diamond the textbook's total, which leaves activations out.",
    )
    page.table("answers", tables.answers(runs), "What each regime needs, and how close the estimates come.")
    beside_memory = f"what such settings do to a model's loss in {page.see('tbl-study')}, " if quality else ""
    page.say(
        f"Every run is in {page.see('tbl-grid')}, {beside_memory}what the textbook gets right and wrong in "
        f"{page.see('tbl-claims')}, and what fits on a card of yours in {page.see('tbl-cards')}."
    )
    page.glossary(
        {
            "Full FT, LoRA, QLoRA": "Train every weight; train two thin matrices (an adapter) beside each frozen one; "
            "the same with the frozen ones stored in four bits (NF4).",
            "r, rank": "The inner width of an adapter.",
            "Linears, targets": "The matrices of a block, and which of them carry an adapter: all, those of "
            "attention, or its queries and values (qv).",
            "Checkpoints": "What forward keeps so that backward can recompute the rest: nothing is recomputed, every "
            "block is (block), or about √L segments of L blocks are.",
            "Bucket": "What a live byte is: weights (adapters and master copies with them), gradients, optimizer state "
            "(Adam's two moments), or activations, which is everything else.",
            "Mixed, amp, bf16, fp32": "How many bytes weights, gradients and moments have; see the table under Method.",
            "Textbook": "16 bytes per trained parameter, 2 or 0.5625 per frozen one, no activations.",
            "Bits per byte": "The loss of predicting text: bits needed for each byte of it; lower is better.",
        }
    )


@unless_empty
def changes(report: Material) -> None:
    """The single decisions that save most, measured."""
    page, runs = report.page, report.runs
    page.table(
        "changes",
        tables.changes(runs),
        "What to change first: from each regime, the single decisions that save most, and their effect on step time.",
    )


@unless_empty
def alternatives(report: Material) -> None:
    """Decisions that nobody measured here, predicted."""
    report.page.table(
        "alternatives",
        decisions.table(report.directory, report.runs),
        "What else could be changed: decisions that were not tried here, predicted in the same way. "
        "<code>footprint predict</code> answers for any other setting, <code>footprint fit</code> searches a card.",
    )
