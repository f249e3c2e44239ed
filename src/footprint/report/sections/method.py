"""What the page cannot say, how the numbers came about, where the rows come from, how to cite, the works cited."""

from pathlib import Path

from footprint.predict import textbook
from footprint.report.page.words import escape
from footprint.report.reading import results, study, system
from footprint.report.reading.citation import citation
from footprint.report.sections.material import Material, of_minigpt
from footprint.report.sentences import bounds
from footprint.report.sentences.clock import how_far_off, the_test
from footprint.report.tables import runs as tables


@of_minigpt
def limitations(report: Material) -> None:
    """What does not follow from these runs."""
    page = report.page
    page.section("limitations", "Limitations")
    found = bounds.limitations(report.runs, report.quality, on_a_gpu=report.on_a_gpu)
    page.say("\n".join(f"- {escape(sentence)}" for sentence in found))


def how(report: Material) -> None:
    """Measuring, predicting, the textbook, the precisions."""
    page = report.page
    page.section("method", "Method")
    page.say(
        "Each run is a process of its own: it builds the model, trains a few steps on real text, and records every "
        "allocation and release. The first step is discarded, because the optimizer allocates its state there. The "
        "peak of a phase is the most bytes live at one instant of it; each live byte belongs to the tensor at its "
        "address, which puts it in a bucket: weights (frozen base, adapters, master copies), gradients, optimizer "
        "state, and activations, which is everything else. The four sum to the peak exactly, and a repeated run gives "
        "the same bytes.",
        "Time is taken afterwards, without the recorder, over several steps. Each row has their median, their "
        "quartiles, and how much of the processors other programs used meanwhile. One test decides whether a time is "
        f"shown. {the_test()} Bytes are never withheld: no neighbour changes them. "
        f"{how_far_off(report.runs, report.quality and report.quality.runs)} A change may be off as far as both of its "
        "runs, a median of several as far as the outermost of them; where one end is further away, ± is that.",
        "The prediction is computed without training: it lists what each operation of forward, backward and the step "
        "allocates and releases, and takes the highest sum. It follows from the shapes, the number of threads, and "
        "what PyTorch's kernels take for themselves; in half precision on a CPU the latter is known for oneDNN's "
        "AVX-512 bf16 kernels only, so other processors will be off by their scratch memory. The textbook column is "
        f"{textbook.TRAINED} bytes per trained parameter {page.cite('micikevicius2017mixed')} plus "
        f"{textbook.FROZEN_HALF:g} (half precision) or {textbook.FROZEN_NF4:g} (NF4) per frozen one, and no "
        "activations. GiB is 2³⁰ bytes, MiB 2²⁰.",
        f"The methods: LoRA {page.cite('hu2021lora')}; QLoRA and NF4 {page.cite('dettmers2023qlora')}; checkpointing "
        f"in √L segments {page.cite('chen2016sublinear')}; 8-bit moments {page.cite('dettmers2021eightbit')}; the "
        f"shapes of LLaMA {page.cite('touvron2023llama')} and Llama 2 {page.cite('touvron2023llama2')}.",
    )
    with page.fold("What each precision keeps"):
        page.table("precisions", tables.precisions(), "What each precision keeps, in bytes per element.")
        page.say(
            "In mixed precision every parameter is stepped alone, through its fp32 master copy, so that one "
            "parameter's fp32 gradient is live at a time; in the others PyTorch's AdamW steps all together and makes "
            "one more tensor for each."
        )


def provenance(report: Material) -> None:
    """Machine, versions, commit, the tables and the configuration."""
    page, quality, directory = report.page, report.quality, report.directory
    page.section("provenance", "Provenance")
    page.say(
        f"The machine: {escape(system.system(directory, report.every))}.",
        results.mixture(report.every),
        results.rerun(directory, report.experiment, report.device),
    )
    if quality:
        same = results.mixture(quality.runs) == results.mixture(report.every)
        page.say(
            "The same holds for the quality study."
            if same
            else f"In the quality study: {results.mixture(quality.runs)}"
        )
    page.downloads(directory, ("measurements", "predictions", "comparison", *(study.COLUMNS if quality else ())))
    with page.fold("Where the rows come from"):
        page.table("provenance", tables.provenance(report.every), "Device, versions, commit and dates of the rows.")
    with page.fold("The configuration of this experiment"):
        text = results.config_text(directory)
        if text is None:
            page.say("The configuration was not kept beside the tables.")
        else:
            page.preformatted(text)


def citing(report: Material) -> None:
    """Author, licence, how to cite."""
    page, cited = report.page, citation()
    page.section("citing", "Citing")
    commits = ", ".join(dict.fromkeys(report.every["git_commit"].astype(str)))
    year = str(report.every["measured_at"].max())[:4]
    where = f" {escape(cited.repository)}." if cited.repository else ""
    page.say(
        f"{escape(cited.authors)} ({year}). *{escape(cited.title)}*. Version {escape(cited.version)}, commit "
        f"{escape(commits)}.{where} <code>CITATION.cff</code> in the repository says the same to programs. Software, "
        f"tables and this page are under the {escape(cited.licence)} licence."
    )


def references(report: Material) -> None:
    """The works cited so far; then the script that shows numbers where one points."""
    report.page.section("references", "References")
    report.page.references()
    report.page.script(Path("page.js"))
