"""What a run needs and when: the ablation table, estimates against measurements, phases, one step as a timeline."""

from footprint.report.figures import memory as figures
from footprint.report.figures import timeline as timeline_figure
from footprint.report.page.words import escape, percent, worst
from footprint.report.reading import results, selection
from footprint.report.sections.material import Material, of_minigpt, unless_empty
from footprint.report.sentences import limits, titles
from footprint.report.sentences.clock import beside_times
from footprint.report.sentences.findings import third_opinion
from footprint.report.tables import ablation as ablation_columns
from footprint.report.tables import runs as tables


@of_minigpt
def ablation(report: Material) -> None:
    """The seed's table regenerated."""
    page, runs = report.page, report.runs
    page.section("ablation", titles.ablation(runs), report.origin)
    predicted = "" if ablation_columns.is_exact(runs) else "as predicted, "
    page.say(
        "The lesson's table has six columns: weights, gradients and Adam of what trains, their total, the frozen base, "
        f"and all of it. Here each is given as the textbook reckons it, {predicted}and as found at the instant of the "
        "peak. The last two columns, activations and the peak, are not in the lesson."
    )
    page.table(
        "ablation",
        ablation_columns.ablation_table(runs),
        f"The lesson's columns for {escape(selection.in_common(selection.headline(runs)))}. "
        f"{ablation_columns.agreement(runs)}",
    )
    page.note(
        "The four buckets are never full together",
        "At the end of forward all activations are live and no gradient is; at the optimizer step it is the other way "
        "round. A column shows what is live at the instant of the peak, so a small Grad or Activations cell is no "
        "saving: it is a bucket that was empty just then.",
    )


@of_minigpt
def estimates(report: Material) -> None:
    """Measured peaks against both estimates; every run behind it, folded away."""
    page, runs = report.page, report.runs
    page.section("estimates", titles.estimates(runs), report.origin)
    with page.unless_empty():
        page.figure(
            "accuracy",
            figures.accuracy(runs),
            f"Each {selection.source(runs)} peak against both estimates; on the line an estimate is exact. Both axes "
            "are logarithmic.",
        )
        page.say(_closeness(report))
    limit = results.memory_limit(report.directory)
    if of_limit := limits.finding(runs, limit):
        page.say(of_limit)
    with page.fold(f"Every run ({len(runs)}), with its buckets"):
        page.table("grid", tables.grid(runs, limit), f"Every run of the experiment. {beside_times(runs)}")
        page.figure(
            "buckets",
            figures.buckets(runs),
            f"The buckets of {'all runs' if len(runs) <= figures.MOST_ROWS else 'the runs predicted worst'}, thick as "
            f"{selection.source(runs)} and thin as predicted. All share {escape(selection.in_common(runs))}.",
        )
    if len(tables.simulated(runs)):
        with page.fold("The third count, simulated, phase by phase"):
            page.table(
                "opinions",
                tables.third_opinion(runs),
                f"The largest distance between the {selection.source(runs)} peak of a phase and those of other counts.",
            )


def _closeness(report: Material) -> str:
    errors = report.finished["peak_relative_error"].astype(float)
    off = (
        f"The prediction's mean error is {percent(errors.abs().mean())}, its worst {percent(worst(errors))}."
        if errors.any()
        else None
    )
    basis = (
        "No constant in the prediction was fitted to a measurement: every term is the size of a tensor that the step "
        "allocates, or of the memory a kernel takes for itself."
    )
    return " ".join(filter(None, [off, basis, third_opinion(report.runs)]))


@of_minigpt
@unless_empty
def phases(report: Material) -> None:
    """When the peak comes: live bytes through one step, and the peak of each phase."""
    page, runs = report.page, report.runs
    page.section("phases", titles.phases(runs), report.origin)
    with page.unless_empty():
        timelines = results.timelines(report.directory, runs)
        page.figure(
            "timeline",
            timeline_figure.timeline(timelines),
            f"Live bytes through one training step, the dot at the peak: {_filled(report, timelines)}. Rightwards "
            "run the bytes that were allocated and released so far, not time; where events crowd, the highest is "
            "drawn. On a GPU these are the bytes requested, which the allocator rounds up.",
            timeline_figure.data(timelines),
        )
    with page.fold("The peak of each phase"), page.unless_empty():
        page.figure(
            "phases",
            figures.phases(runs),
            "The most bytes live in each phase; the phase that sets the peak in colour, the prediction as a tick.",
        )
        page.table("phases", tables.phases(runs), "The peak of each phase, and how well it was predicted.")


def _filled(report: Material, timelines: results.Timelines) -> str:
    """What the areas and the lines of the timeline are."""
    if any(measured for _, measured, _ in timelines):
        return (
            f"buckets filled as {selection.source(report.runs)}, their boundaries drawn as predicted (of the optimizer "
            "step only the height)"
        )
    origin = selection.source(report.runs)
    return f"buckets as predicted, since no timeline of a {origin} step was kept beside these tables"
