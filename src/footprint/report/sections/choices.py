"""What one decision changes: rank, targets, checkpointing."""

import pandas as pd

from footprint.report.figures import choices as figures
from footprint.report.page.words import escape
from footprint.report.reading import effects, results
from footprint.report.reading.selection import in_common, source
from footprint.report.reading.times import set_aside
from footprint.report.sections.material import Material, of_minigpt
from footprint.report.sentences import titles
from footprint.report.sentences.clock import beside_times
from footprint.report.sentences.findings import extremes_by_rank
from footprint.report.tables import runs as tables


@of_minigpt
def adapters(report: Material) -> None:
    """Peak over rank, and by the Linears that carry adapters."""
    page, runs = report.page, report.runs
    page.section("ranks", titles.ranks(runs), report.origin)
    with page.unless_empty():
        page.figure(
            "ranks",
            figures.ranks(runs),
            f"Peak memory over adapter rank: marks {source(runs)}, lines predicted. All share "
            f"{escape(in_common(pd.concat(effects.series(runs, 'rank'))))}.",
        )
    if more := extremes_by_rank(runs):
        page.say(escape(more))
    with page.unless_empty():
        page.figure(
            "targets",
            figures.targets(runs),
            f"The buckets by the Linears that carry adapters, thick as {source(runs)} over thin as predicted.",
        )
    for axis, title, caption in (
        ("rank", "The numbers by rank", "What a rank costs."),
        ("targets", "The numbers by targets", "What a choice of targets costs."),
    ):
        if found := effects.series(runs, axis):
            with page.fold(title):
                name = "ranks" if axis == "rank" else "targets"
                page.table(name, tables.by_axis(found, *(["targets"] if axis == "targets" else [])), caption)


@of_minigpt
def checkpointing(report: Material) -> None:
    """Bytes saved, and the time that is paid for them."""
    page, runs = report.page, report.runs
    page.section("checkpointing", titles.checkpointing(runs), report.origin)
    page.say(
        "Saving only some activations and recomputing the rest trades time for memory. The textbook promises a √L-fold "
        "reduction of activations for about 30 % more compute."
    )
    with page.unless_empty():
        layers = results.layers(report.directory)
        depths = {layers.get(model) for model in report.finished["model"]}
        root = None if None in depths or len(depths) != 1 else depths.pop() ** 0.5
        page.figure(
            "checkpointing",
            figures.checkpointing(runs, 1 - 1 / root if root else None),
            "What checkpointing saves at the peak, medians over pairs of runs that differ in nothing else; dashed, the "
            "activations that the textbook's √L would save.",
        )
        page.table(
            "checkpointing",
            tables.checkpointing(runs, layers),
            f"Medians over pairs of runs.{_timed(report)} Where the optimizer step needs almost as much as backward, "
            f"saving activations hardly lowers the peak. {beside_times(runs)}",
        )
        if left_out := set_aside(effects.checkpointing_effects(runs)):
            page.note("Some times were disturbed", left_out)


def _timed(report: Material) -> str:
    """What a column says that a rehearsal does not have."""
    timed = report.finished["step_seconds"].notna().any()
    return " <em>Timed</em> counts the pairs whose times were not disturbed." if timed else ""
