# The page people read.


rule report:
    """Render the report, and its findings in a few lines, from the tables alone."""
    input:
        script="scripts/report.py",
        notebook="report/notebook.py",
        # What else the page is made of: a change there renders it again.
        sources=sorted(
            glob("report/**/*.*", recursive=True)
            + glob("src/footprint/report/**/*.py", recursive=True)
            + glob("src/footprint/report/page/*.mplstyle")
        ),
        reference=sorted(glob("results/reference/**/*.csv", recursive=True)),
        # What was asked of several cards, beside what came of it.
        several_gpus="config/several-gpus.yaml",
        citation="CITATION.cff",
        experiment=f"{RESULTS}/experiment.json",
        manifest=f"{RESULTS}/manifest.json",
        measurements=f"{RESULTS}/measurements.csv",
        predictions=f"{RESULTS}/predictions.csv",
        comparison=f"{RESULTS}/comparison.csv",
        quality=QUALITY,
        # The tables are held against what they were gathered from, and the page shows some of the timelines.
        runs=ROWS + TIMELINES + SIMULATIONS,
        study=TUNED_ROWS + TUNED_CURVES + STORED,
    output:
        page=report(
            f"{RESULTS}/report.html",
            category="Report",
            caption="../report/report.rst",
        ),
        headline=f"{RESULTS}/headline.txt",
        checksums=f"{RESULTS}/report.sha256",
    log:
        f"{RESULTS}/logs/report.log",
    localrule: True
    conda:
        CONDA
    params:
        # Another renderer makes another page: Quarto may have been installed since.
        renderer="quarto" if EXPERIMENT.engine == "auto" and which("quarto") else EXPERIMENT.engine,
    shell:
        r"""
        python {input.script:q} \
            --experiment {input.experiment:q} \
            --notebook {input.notebook:q} \
            --reference results/reference \
            --output {output.page:q} \
            --headline {output.headline:q} \
            --checksums {output.checksums:q} \
            2>{log:q}
        """


onsuccess:
    PROGRESS.finish()
