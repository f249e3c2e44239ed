"""What one decision changes: rank, targets, checkpointing."""

from footprint.report.figures import choices as figures
from footprint.report.reading import effects, results
from footprint.report.reading.selection import source
from footprint.report.sections.material import Material, unless_empty
from footprint.report.tables import runs as tables
from footprint.report.textbook.claims import SLOWDOWN


@unless_empty
def ranks(report: Material) -> None:
    """Peak over rank."""
    page, runs = report.page, report.runs
    page.figure("ranks", figures.ranks(runs), f"Peak memory over adapter rank: dots {source(runs)}, lines predicted.")
    page.table("ranks", tables.by_axis(effects.series(runs, "rank")), "What a rank costs.")


@unless_empty
def targets(report: Material) -> None:
    """Peak by the Linears that carry adapters."""
    page, runs = report.page, report.runs
    page.figure(
        "targets",
        figures.targets(runs),
        f"The buckets by the Linears that carry adapters, thick as {source(runs)} over thin as predicted.",
    )
    by_targets = tables.by_axis(effects.series(runs, "targets"), "targets")
    page.table("targets", by_targets, "What a choice of targets costs.")


@unless_empty
def checkpointing(report: Material) -> None:
    """Activations saved against time added."""
    page, runs = report.page, report.runs
    pairs = effects.checkpointing_effects(runs)
    layers = results.layers(report.directory)
    depths = {layers.get(model) for model in report.finished["model"]}
    root = None if None in depths or len(depths) != 1 else depths.pop() ** 0.5
    with page.unless_empty():  # without times there is no figure, and the bytes of the table stay
        page.figure(
            "checkpointing",
            figures.checkpointing(runs, 1 - 1 / root if root else None, SLOWDOWN),
            "Activation bytes saved at the peak against step time added, one mark for each pair of runs that differ in "
            "nothing else; dashed, what the textbook claims.",
        )
    page.table(
        "checkpointing",
        tables.checkpointing(runs, layers),
        "Medians over pairs of runs (of times, over those that were not disturbed). Where the optimizer step is nearly "
        "as high as backward, fewer activations hardly lower the peak.",
    )
    if left_out := effects.set_aside(pairs):
        page.note("Some times were disturbed", left_out)
