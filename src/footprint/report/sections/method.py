"""How the numbers came about, where the rows come from, and the works cited."""

from footprint.predict import textbook
from footprint.report.reading import results, study
from footprint.report.sections.material import Material
from footprint.report.tables import runs as tables


def how(report: Material) -> None:
    """Measuring, predicting, the textbook, the precisions."""
    page = report.page
    page.say(
        "Each run is a process of its own: it builds the model, trains a few steps on real text, and records every "
        "allocation and release. The first step is discarded, because the optimizer allocates its state there. The "
        "peak of a phase is the most bytes live at one instant of it; each live byte belongs to the tensor at its "
        "address, which puts it in a bucket: weights (frozen base, adapters, master copies), gradients, optimizer "
        "state, and activations, which is everything else. The four sum to the peak exactly, and a repeated run gives "
        "the same bytes.",
        "The prediction is computed without training: it lists what each operation of forward, backward and the step "
        "allocates and releases, and takes the highest sum. It follows from the shapes, the number of threads, and "
        "what PyTorch's kernels take for themselves; in half precision on a CPU the latter is known for oneDNN's "
        "AVX-512 bf16 kernels only, so other processors will be off by their scratch memory. The textbook column is "
        f"{textbook.TRAINED} bytes per trained parameter {page.cite('micikevicius2017mixed')} plus "
        f"{textbook.FROZEN_HALF:g} (half precision) or {textbook.FROZEN_NF4:g} (NF4) per frozen one, and no "
        "activations. GiB is 2³⁰ bytes, MiB 2²⁰.",
        f"The methods: LoRA {page.cite('hu2021lora')}; QLoRA and NF4 {page.cite('dettmers2023qlora')}; checkpointing "
        f"in √L segments {page.cite('chen2016sublinear')}; 8-bit moments {page.cite('dettmers2021eightbit')}; the "
        f"LLaMA shapes {page.cite('touvron2023llama')} {page.cite('touvron2023llama2')}.",
    )
    page.table("precisions", tables.precisions(), "What each precision keeps, in bytes per element.")
    page.say(
        "In mixed precision every parameter is stepped alone, through its fp32 master copy, so that one parameter's "
        "fp32 gradient is live at a time; in the others PyTorch's AdamW steps all together and makes one more tensor "
        "for each."
    )


def provenance(report: Material) -> None:
    """Device, versions, commit, the tables and the configuration."""
    page, quality, directory = report.page, report.quality, report.directory
    page.table("provenance", tables.provenance(report.runs), "Where the rows come from.")
    page.say(results.mixture(report.runs), results.rerun(directory, report.experiment, report.device))
    if quality:
        page.say(f"The quality study: {results.mixture(quality.runs)}")
    page.downloads(directory, ("measurements", "predictions", "comparison", *(study.COLUMNS if quality else ())))
    page.config(results.config_text(directory))


def references(report: Material) -> None:
    """The works cited so far."""
    report.page.references()
