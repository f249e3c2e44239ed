"""How many GPUs: the fewest cards that hold a fine-tuning, and what lies on each of them."""

from footprint.report.figures.several_gpus import peaks
from footprint.report.sections.material import REHEARSED, Material
from footprint.report.sentences import several_gpus as sentences
from footprint.report.tables import several_gpus as tables


def how_many(report: Material) -> None:
    """The fewest cards by model and regime, and the peak of each card in full."""
    page, found = report.page, report.several_gpus
    if found is None:
        page.section("gpus", "How many GPUs")
        page.say("No rehearsals over several cards lie in the reference folder.")
        return
    page.section("gpus", sentences.title(found), REHEARSED)
    page.say(sentences.against_the_lesson(found))
    page.table("gpus", tables.fewest_cards(found), tables.CAPTION.format(tokens=found.tokens))
    page.figure(
        "gpus-peaks",
        peaks(found),
        "Bytes allocated on each card in full fine-tuning over the number of cards, one sequence of "
        f"{found.tokens:,} tokens on each; horizontal lines are the memory of a card. Both axes are logarithmic.",
        found.runs,
    )
    page.say(sentences.ABOVE, sentences.setting(found), sentences.UNCOUNTED)
