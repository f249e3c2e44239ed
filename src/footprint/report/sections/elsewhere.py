"""Other hardware: what fits on which card, and results of other devices."""

from footprint.report.figures.cards import figure
from footprint.report.page.words import escape, listing
from footprint.report.reading import cards
from footprint.report.reading.selection import source
from footprint.report.sections.material import PREDICTED, REHEARSED, Material, of_minigpt
from footprint.report.sentences.cards import finding, without_masters
from footprint.report.tables import devices
from footprint.report.tables.cards import table


def what_fits(report: Material) -> None:
    """Predicted peaks of the LLaMA shapes against cards."""
    page = report.page
    predicted = cards.predictions()
    page.section("cards", f"Cards: {finding(predicted)[0].lower()}{finding(predicted)[1:]}", PREDICTED)
    page.figure(
        "cards",
        figure(predicted),
        "Predicted peak of one sequence over its length, cards as horizontal lines; both axes are logarithmic.",
    )
    page.table(
        "cards",
        table(predicted),
        f"The longest of the sequences tried ({listing(f'{seq:,}' for seq in cards.SEQUENCES)} tokens) that a card "
        f"holds, without / with checkpointing. Then what one sequence of {cards.SEQUENCES[-1]:,} tokens takes with "
        "every block checkpointed: what the allocator counts, what it reserves with its cache, and what the card shows "
        f"with the CUDA context. Rank 8 on all Linears, mixed precision; kernels of an "
        f"{cards.CARDS['A100'].name}.",
    )
    page.say(
        without_masters(),
        "For other models, batches and cards ask <code>footprint predict</code> and <code>footprint fit</code>, or the "
        "<a href='../../../site/index.html'>calculator</a> that <code>make site</code> builds.",
    )


@of_minigpt
def other_devices(report: Material) -> None:
    """The same runs on other devices."""
    page, runs, beside = report.page, report.runs, report.beside
    rehearsed = any((frame["source"] == "rehearsed").any() for frame in beside.values())
    page.section("devices", devices.title(runs, beside), REHEARSED_THERE if rehearsed else None)
    if beside:
        page.table(
            "devices",
            devices.side_by_side(report.device, runs, beside),
            "The peak of each regime on every device there are results of; the textbook's total is one for all.",
        )
        page.note(
            "Differences are expected",
            "Processors of one kind should agree to the byte; others take other scratch memory in half precision. A "
            "GPU's allocator rounds every tensor up to 512 bytes and counts cuBLAS workspaces, and its kernels keep "
            "other statistics and scratch memory than a CPU's. Weights and optimizer state should agree to within that "
            "rounding.",
        )
    else:
        page.say("No results of another device lie in the reference folder, so this page shows one device.")
    for sentence in report.unfinished:
        page.say(f"Left out: {escape(sentence)}.")
    for number, (name, other) in enumerate(beside.items(), start=1):
        with page.fold(f"Run by run: {devices.plain(name)}, {source(other)}"), page.unless_empty():
            names = listing(escape(device) for device in dict.fromkeys(other["device_name"].astype(str)))
            page.table(
                f"device-{number}",
                devices.table(runs, other),
                f"Peaks here ({escape(report.device)}, {source(runs)}) and there ({escape(devices.plain(name))}, "
                f"{source(other)}; {names}).",
            )
            kind = "The same kind of device, so this shows repeatability. " if devices.same_kind(runs, other) else ""
            page.say(f"{kind}Over the runs finished on both, {devices.agreement(runs, other)}.")


REHEARSED_THERE = REHEARSED.replace(
    "Rehearsed, not measured:", "Where a device is called rehearsed, it was not measured:"
)
