"""Loss and speed beside memory: the quality study."""

from footprint.report.figures import curves as curve_figures
from footprint.report.figures import frontier as frontier_figure
from footprint.report.page.words import escape
from footprint.report.reading import results, selection
from footprint.report.sections.material import Material, of_minigpt, of_study
from footprint.report.sentences import study as sentences
from footprint.report.sentences import titles
from footprint.report.sentences.clock import beside_times
from footprint.report.tables import study as tables


@of_minigpt
def frontier(report: Material) -> None:
    """Loss against memory, and what can be said of it."""
    page, quality, directory = report.page, report.quality, report.directory
    page.section("loss", titles.loss(quality))
    if quality is None:
        page.say(sentences.NO_STUDY)
        return
    page.say(
        f"{_whose(report)} {results.study_story(directory)} Losses are of held-out text, in bits per byte.",
        escape(sentences.summary(quality)),
    )
    with page.unless_empty():
        page.figure(
            "frontier",
            frontier_figure.frontier(quality),
            "Each setting by its peak memory and the validation loss it ends at (the mean over its seeds; where "
            "longer than the mark, the bar reaches from lowest to highest). The line joins the settings that no "
            "smaller one matches in loss, beyond what seeds alone change; the others are faded. "
            "<em>block</em> and <em>√L</em> are ways of checkpointing.",
        )
    page.say(f"Every setting is in {page.see('tbl-study')}. {escape(' '.join(sentences.sentences(quality)))}")
    for title, text in sentences.notes(quality):
        page.note(title, escape(text))
    page.table(
        "study",
        tables.settings(quality),
        "The settings of the study: peaks measured while training, and validation loss in bits per byte after the "
        "last step (mean, lowest and highest over the seeds) and before the first. Compare a setting of one seed with "
        "the same seed of the others; <code>quality.csv</code>, under Provenance, has every run.",
    )


def _whose(report: Material) -> str:
    """Which model the study is of, and that it is not the page's, if it is not."""
    settings = report.quality.settings
    common = escape(selection.in_common(settings))
    if set(settings["model"]) <= set(report.runs["model"]):
        return f"What a setting does to the loss is tried with runs that go on to the end: {common}."
    return (
        "The runs above end after a few steps. What a setting does to the loss is tried with another model, small "
        f"enough to be trained to the end many times: {common}."
    )


@of_study
def details(report: Material) -> None:
    """What lies behind the frontier, folded away."""
    _over_steps(report)
    _over_ranks(report)
    _times(report)
    _bases(report)
    _recomputing(report)


def _over_steps(report: Material) -> None:
    page = report.page
    with page.fold("Loss over the steps"), page.unless_empty():
        page.figure(
            "curves",
            curve_figures.curves(report.quality),
            "Validation loss while training (marked), and the loss of the training text (thin), each point the mean of "
            "the steps around it; with several seeds their mean.",
        )


def _over_ranks(report: Material) -> None:
    page = report.page
    with page.fold("Loss and memory over rank"), page.unless_empty():
        page.figure(
            "loss-ranks",
            curve_figures.ranks(report.quality),
            "What adapter rank does to the final validation loss and to the peak; dashed, full fine-tuning in the same "
            "setting. Bars and the grey band reach from the lowest to the highest seed.",
        )


def _times(report: Material) -> None:
    page, quality = report.page, report.quality
    with page.fold("How long a step takes"), page.unless_empty():
        page.table(
            "pace",
            tables.pace(quality),
            "The time of a step of each setting, the share of its parts, and tokens per second: medians over the seeds "
            f"that were not disturbed. {beside_times(quality.runs)}",
        )


def _bases(report: Material) -> None:
    page, quality = report.page, report.quality
    with page.fold("Where QLoRA starts: the base in four bits"), page.unless_empty():
        page.table(
            "bases",
            tables.bases(quality),
            "The base as it can be stored and computed with, before any fine-tuning. The weight error is relative to "
            "the fp32 base (Frobenius norm, Linears of the blocks); losses are of held-out text in bits per byte, in "
            "brackets how far from those of the fp32 base, at the length of sequence the base was pretrained with.",
        )
        if start := sentences.starting_point(quality):
            page.say(escape(start))


def _recomputing(report: Material) -> None:
    page, quality = report.page, report.quality
    with page.fold("What recomputing does to the loss"), page.unless_empty():
        recomputed = tables.recomputing(quality)
        page.say(escape(sentences.recomputing(quality)))
        page.table(
            "recomputing",
            recomputed,
            "Against the run of the same seed without checkpoints: peak saved, final validation loss (bits per byte), "
            "and the time of a step.",
        )
