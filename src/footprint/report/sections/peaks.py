"""What a run needs and when: the ablation table, buckets, phases, one step as a timeline."""

from footprint.report.figures import memory as figures
from footprint.report.figures import timeline as timeline_figure
from footprint.report.page.words import counted, escape, percent, worst
from footprint.report.reading import results, selection
from footprint.report.sections.material import Material, unless_empty
from footprint.report.sentences import limits
from footprint.report.tables import ablation as ablation_columns
from footprint.report.tables import runs as tables


def ablation(report: Material) -> None:
    """The seed's table regenerated."""
    page, runs = report.page, report.runs
    page.table(
        "ablation",
        ablation_columns.ablation_table(runs),
        f"Memory by the seed's columns: {escape(selection.in_common(selection.headline(runs)))}. "
        f"The error is predicted / {selection.source(runs)} − 1.",
    )
    page.note(
        "The four buckets are never full together",
        "At the end of forward all activations are live and no gradient is; at the optimizer step it is the other way "
        "round. A column shows what is live at the instant of the peak, so a small Grad or Activations cell is no "
        "saving: it is a bucket that was empty just then.",
    )


def buckets(report: Material) -> None:
    """What is live at the peak of each run."""
    page, runs = report.page, report.runs
    page.figure(
        "buckets",
        figures.buckets(runs),
        f"The buckets of {'all runs' if len(runs) <= figures.MOST_ROWS else 'the runs predicted worst'}, thick as "
        f"{selection.source(runs)} and thin as predicted. All share {escape(selection.in_common(runs))}.",
    )


@unless_empty
def accuracy(report: Material) -> None:
    """Measured peaks against both estimates."""
    page, runs = report.page, report.runs
    page.figure(
        "accuracy",
        figures.accuracy(runs),
        f"Each {selection.source(runs)} peak against both estimates; on the line an estimate is exact. Both axes are "
        "logarithmic.",
    )
    errors = report.finished["peak_relative_error"].astype(float)
    off = (
        f"; its mean error is {percent(errors.abs().mean())}, its worst {percent(worst(errors))}"
        if errors.any()
        else ""
    )
    page.say(
        f"The prediction is exact in {(errors == 0).sum()} of {counted(len(errors), 'run')}{off}. No constant in it "
        "was fitted to a measurement: every term is the size of a tensor that the step allocates, or of the memory a "
        "kernel takes for itself."
    )


def grid(report: Material) -> None:
    """Every run, and whether those that ran out of memory were foreseen."""
    page, runs = report.page, report.runs
    limit = results.memory_limit(report.directory)
    page.table("grid", tables.grid(runs, limit), f"Every run of the experiment ({counted(len(runs), 'run')}).")
    if of_limit := limits.finding(runs, limit):
        page.say(of_limit)


@unless_empty
def phases(report: Material) -> None:
    """The peak of each phase."""
    page, runs = report.page, report.runs
    page.figure(
        "phases",
        figures.phases(runs),
        "The most bytes live in each phase; the phase that sets the peak in colour, the prediction as a tick.",
    )
    page.table("phases", tables.phases(runs), "The peak of each phase, and how well it was predicted.")


@unless_empty
def opinions(report: Material) -> None:
    """The third opinion beside measurement and prediction."""
    page, runs = report.page, report.runs
    page.table(
        "opinions",
        tables.third_opinion(runs),
        "A third opinion: the largest distance between a phase's measured peak and the two other counts. The "
        "simulation runs the real program and adds up its tensors without an allocator, so it cannot see what a kernel "
        "takes inside one operator; where prediction and measurement agree and it does not, that is the difference.",
    )


@unless_empty
def timeline(report: Material) -> None:
    """Live bytes through one step."""
    timelines = results.timelines(report.directory, report.runs)
    report.page.figure(
        "timeline",
        timeline_figure.timeline(timelines),
        "Live bytes through one training step, the dot at the peak: buckets filled as "
        f"{selection.source(report.runs)}, their boundaries drawn as predicted (of the optimizer step only the "
        "height). Each phase has a width of its own; within it, a place is a share of the bytes that the phase "
        "allocates and releases; of neighbouring events the highest is drawn. On a GPU these are the bytes requested, "
        "which the allocator rounds up.",
        timeline_figure.data(timelines),
    )
