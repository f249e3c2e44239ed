"""The same run in Transformers: what people's own stack takes beside this project's loop, and why."""

from footprint.report.page.empty import NoRunsError
from footprint.report.page.words import listing, percent
from footprint.report.reading import stacks as reading
from footprint.report.reading.selection import REGIME_NAMES, source
from footprint.report.reading.stacks import Rehearsals
from footprint.report.sections.material import REHEARSED, Material
from footprint.report.tables import stacks as tables
from footprint.spec.cards import find
from footprint.spec.units import format_bytes


def in_transformers(report: Material) -> None:
    """Both stacks by bucket, and folded away the tensors between them, what each setting changes, and the runs here."""
    page, title = report.page, "The same run in Transformers"
    try:
        found = reading.load(report.reference)
    except NoRunsError as nothing:
        page.section("transformers", title)
        page.say(str(nothing))
    else:
        page.section("transformers", f"{title}: a peak of {_apart(found)}", REHEARSED)
        _rehearsed(report, found)
    _here(report)
    if len(report.under_transformers):
        with page.fold("Every run under Transformers' Trainer"):
            table = tables.every(report.under_transformers)
            page.table("transformers-runs", table, f"Their peaks, {source(report.under_transformers)}, and buckets.")


def _rehearsed(report: Material, found: Rehearsals) -> None:
    page = report.page
    page.say(_what(found))
    page.table(
        "stacks", tables.by_bucket(found), "The buckets of both at the peak, and the highest point of each phase."
    )
    with page.fold("Which tensors make the difference"):
        page.table(
            "stack-tensors",
            tables.tensors(found),
            "Rehearsed: the tensors that one of the two has more of at its peak, by shape, and the one setting of the "
            "recipe without which most of them are gone.",
        )
    with page.fold("What each setting changes"):
        page.table(
            "stack-settings",
            tables.settings(found),
            "Rehearsed: by how much the peak in Transformers changes where one setting is changed and the others stay.",
        )


def _here(report: Material) -> None:
    """The runs of this experiment that both stacks have made, if there are any."""
    pairs = reading.pairs(report.runs, report.under_transformers)
    if len(pairs):
        with report.page.fold("The runs that were made here in both"):
            caption = f"Peaks of the runs that were made here in both, {source(pairs)}."
            report.page.table("stacks-here", tables.measured_pairs(pairs), caption)


def _apart(found: Rehearsals) -> str:
    """How much more or less Transformers takes, by regime."""
    ratios = {
        REGIME_NAMES[regime]: found.peak(regime, "transformers") / found.peak(regime, "minigpt") - 1
        for regime in dict.fromkeys(found.runs["regime"])
    }
    return listing(f"{percent(ratio, signed=True)} in {regime}" for regime, ratio in ratios.items())


def _what(found: Rehearsals) -> str:
    """Which runs these are, and how far apart the stacks come out."""
    run = found.runs.iloc[0]
    logits = _logits(found)
    return (
        f"Most people fine-tune with Transformers' Trainer, PEFT and bitsandbytes. Here {run['model']} is trained on "
        f"{run['batch']} × {run['seq']:,} tokens by both, rehearsed on an {find(run['card']).name} with the settings "
        f"most guides give (LoRA dropout of 0.05, <code>prepare_model_for_kbit_training</code>, "
        f"<code>bf16=True</code>). Against this project's own loop, the peak in Transformers is {_apart(found)}. "
        f"{logits}"
        "<code>footprint rehearse --hf-config config.json</code> answers the same for a model of yours."
    )


def _logits(found: Rehearsals) -> str:
    """A sentence on the logits, if both stacks hold as many bytes of them at every peak."""
    of_vocabulary = found.tensors[found.tensors["tensor"].str.startswith("tokens x vocab").to_numpy()]
    sums = of_vocabulary.groupby(["regime", "run"])["bytes"].sum().unstack(fill_value=0)
    if not len(sums) or (sums["minigpt"] != sums["transformers"]).any():
        return ""
    most = format_bytes(int(sums["transformers"].max()))
    return f"The logits and their copies are the same in both, up to {most}. "
