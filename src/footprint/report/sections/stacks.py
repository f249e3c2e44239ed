"""The same run in Transformers: what people's own stack takes beside this project's loop, and why."""

from footprint.report.page.words import listing, percent
from footprint.report.reading import stacks as reading
from footprint.report.reading.selection import REGIME_NAMES, source
from footprint.report.reading.stacks import Rehearsals
from footprint.report.sections.material import Material, unless_empty
from footprint.report.tables import stacks as tables
from footprint.spec.cards import find
from footprint.spec.units import format_bytes


@unless_empty
def in_transformers(report: Material) -> None:
    """Both stacks by bucket, the tensors between them, and what each setting changes."""
    page, found = report.page, reading.load(report.reference)
    page.say(_what(found))
    page.table(
        "stacks",
        tables.by_bucket(found),
        "Rehearsed: both stacks by bucket at the peak, and the highest point of each phase.",
    )
    page.table(
        "stack-tensors",
        tables.tensors(found),
        "Rehearsed: the tensors that one stack has more of at its peak, by shape, and the one setting of the recipe "
        "without which most of them are gone.",
    )
    page.table(
        "stack-settings",
        tables.settings(found),
        "Rehearsed: by how much the peak in Transformers changes where one setting is changed and the others stay.",
    )


def here(report: Material) -> None:
    """The runs of this experiment that both stacks have made, if there are any."""
    pairs = reading.pairs(report.runs, report.under_transformers)
    if not len(pairs):
        return
    caption = f"Peaks of the runs that both stacks have made here, {source(pairs)}."
    report.page.table("stacks-here", tables.measured_pairs(pairs), caption)


def _what(found: Rehearsals) -> str:
    """Which runs these are, and how far apart the stacks come out."""
    run = found.runs.iloc[0]
    ratios = {
        REGIME_NAMES[regime]: found.peak(regime, "transformers") / found.peak(regime, "minigpt") - 1
        for regime in dict.fromkeys(found.runs["regime"])
    }
    apart = [f"{percent(ratio, signed=True)} in {regime}" for regime, ratio in ratios.items()]
    logits = _logits(found)
    return (
        f"Most people fine-tune with Transformers' Trainer, PEFT and bitsandbytes. Here {run['model']} is trained on "
        f"{run['batch']} × {run['seq']:,} tokens by both, rehearsed on an {find(run['card']).name} with the settings "
        f"most guides give (LoRA dropout of 0.05, <code>prepare_model_for_kbit_training</code>, "
        f"<code>bf16=True</code>). Transformers takes {listing(apart)}. {logits}"
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
