"""Loss and speed beside memory: the quality study."""

from footprint.report.figures import curves as curve_figures
from footprint.report.figures import frontier as frontier_figure
from footprint.report.page.words import escape
from footprint.report.reading import results, selection
from footprint.report.sections.material import Material, of_study, unless_empty
from footprint.report.sentences import study as sentences
from footprint.report.tables import study as tables


def frontier(report: Material) -> None:
    """Loss against memory, and what can be said of it."""
    page, quality, directory = report.page, report.quality, report.directory
    if quality is None:
        page.say(sentences.NO_STUDY)
    else:
        page.say(
            f"Fine-tuning from one pretrained base: {escape(selection.in_common(quality.settings))}. "
            f"{results.study_story(directory)} Losses are of held-out text, in bits per byte."
        )
        with page.unless_empty():
            page.figure(
                "frontier",
                frontier_figure.frontier(quality),
                "Each setting by its peak memory and the validation loss it ends at (the mean over its seeds; where "
                "longer than the mark, the bar reaches from lowest to highest). The area of a mark is the time of all "
                "steps. The line joins the settings that nothing beats in both memory and loss (over the seeds that "
                "two settings share); the others are faded. <em>block</em> and <em>√L</em> are ways of checkpointing. "
                "Every setting is in the table below.",
            )
        page.say(escape(" ".join(sentences.sentences(quality))))
        for title, text in sentences.notes(quality):
            page.note(title, escape(text))


@of_study
def settings(report: Material) -> None:
    """The settings of the study, and how long their steps take."""
    page, quality = report.page, report.quality
    page.table(
        "study",
        tables.settings(quality),
        "The settings of the quality study: peaks measured while training, and validation loss in bits per byte before "
        "and after (mean, lowest and highest over the seeds). A setting with one seed is to be compared with that seed "
        "of the others, which is in the CSV of all runs.",
    )
    with page.unless_empty():
        page.table(
            "pace",
            tables.pace(quality),
            "How long a step of each setting takes, in its parts (medians over steps and seeds), and all of them.",
        )


@of_study
@unless_empty
def curves(report: Material) -> None:
    """Loss over the steps."""
    page, quality = report.page, report.quality
    page.figure(
        "curves",
        curve_figures.curves(quality),
        "Validation loss while training (marked), and the loss of the training text (thin), each point the mean of "
        "the steps around it; with several seeds their mean.",
    )


@of_study
@unless_empty
def ranks(report: Material) -> None:
    """Loss and memory over rank."""
    page, quality = report.page, report.quality
    page.figure(
        "loss-ranks",
        curve_figures.ranks(quality),
        "What adapter rank does to the final validation loss and to the peak; dashed, full fine-tuning in the same "
        "setting. Bars and the grey band reach from the lowest to the highest seed.",
    )


@of_study
@unless_empty
def starting_point(report: Material) -> None:
    """The bases as they are stored, before any fine-tuning."""
    page, quality = report.page, report.quality
    page.table(
        "bases",
        tables.bases(quality),
        "QLoRA's starting point: the base as it can be stored and computed with, before any fine-tuning. The "
        "weight error is relative to the fp32 base (Frobenius norm, Linears of the blocks); losses are of held-out "
        "text in bits per byte, in brackets how far from those of the fp32 base, at the length of sequence the "
        "base was pretrained with.",
    )
    if start := sentences.starting_point(quality):
        page.say(escape(start))


@of_study
@unless_empty
def recomputing(report: Material) -> None:
    """What checkpointing does to loss and time."""
    page, quality = report.page, report.quality
    recomputed = tables.recomputing(quality)
    page.say(escape(sentences.recomputing(quality)))
    page.table(
        "recomputing",
        recomputed,
        "What recomputing changes against the run of the same seed without checkpoints: peak saved, final "
        "validation loss (bits per byte), and seconds of each part of the step.",
    )
