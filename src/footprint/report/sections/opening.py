"""The first screen: what was run, on what and when, three sentences, one figure; then what to change first."""

from footprint.report.figures import memory as figures
from footprint.report.page.words import counted, escape, listing
from footprint.report.reading import system
from footprint.report.reading.citation import citation
from footprint.report.reading.selection import REGIME_NAMES, headline, in_common, measured, source
from footprint.report.sections.material import Material, of_minigpt, unless_empty
from footprint.report.sentences import findings, titles
from footprint.report.sentences.clock import beside_times
from footprint.report.tables import alternatives as decisions
from footprint.report.tables import runs as tables


def answer(report: Material) -> None:
    """What was run, the findings, and the regimes at a glance."""
    page, runs, every = report.page, report.runs, report.every
    spelled = REGIME_NAMES | {"full": "full fine-tuning (Full FT)"}
    regimes = listing(name for regime, name in spelled.items() if (every["regime"] == regime).any())
    models = listing(escape(model) for model in dict.fromkeys(every["model"]))
    devices = listing(escape(name) for name in dict.fromkeys(every["device_name"].astype(str)))
    page.facts(
        f"<strong>{counted(len(every), 'training run')}</strong> of {models} in {regimes}; {source(every)} on "
        f"{devices}, {system.when(every)}",
        f"{len(measured(every))} of {len(every)} finished",
    )
    page.answer(findings.answers(runs) if len(runs) else findings.in_transformers(every))
    if len(runs):
        _at_a_glance(report)
    cited = citation()
    page.facts(
        f"By {escape(cited.authors)}",
        f"experiment {escape(report.experiment)} on {escape(report.device)}",
        f"{escape(cited.licence)} licence",
        '<a href="#citing">how to cite</a>',
        '<a href="#provenance">where every row comes from</a>',
        f"page rendered by {'Quarto' if report.renderer == 'quarto' else 'nbconvert'}",
    )


def _at_a_glance(report: Material) -> None:
    page, runs = report.page, report.runs
    page.figure(
        "regimes",
        figures.regimes(runs),
        f"Bytes live at the instant of the peak: the thick bar as {source(runs)}, the thin one as predicted without "
        f"training, the diamond the textbook's total. All share {escape(in_common(headline(runs)))}.",
    )
    with page.fold("The numbers of this figure"):
        page.table(
            "answers",
            tables.answers(runs),
            f"What each regime needs, and how close the estimates come. {beside_times(runs)}",
        )


@of_minigpt
@unless_empty
def changes(report: Material) -> None:
    """The single decisions that save most, measured; then those that nobody measured, predicted."""
    page, runs = report.page, report.runs
    page.section("changes", titles.changes(runs), report.origin)
    with page.unless_empty():
        page.table(
            "changes",
            tables.changes(runs),
            f"From each regime, the single decisions that save most. {beside_times(runs)}",
        )
    with page.fold("What else could be changed: decisions that were not tried here, predicted"), page.unless_empty():
        page.table(
            "alternatives",
            decisions.table(report.directory, runs),
            "Each decision alone, predicted in the same way. <code>footprint predict</code> answers for any other "
            "setting, <code>footprint fit</code> searches a card.",
        )
