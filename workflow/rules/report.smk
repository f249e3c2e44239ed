# The page people read.


rule report:
    """Render the report, and its findings in a few lines, from the tables alone."""
    input:
        script="scripts/report.py",
        notebook="report/report.py",
        # What else the page is made of: a change there renders it again.
        sources=sorted(glob("report/**/*.*", recursive=True)),
        reference=sorted(glob("results/reference/*/*.csv")),
        experiment=f"{RESULTS}/experiment.json",
        measurements=f"{RESULTS}/measurements.csv",
        predictions=f"{RESULTS}/predictions.csv",
        comparison=f"{RESULTS}/comparison.csv",
        quality=QUALITY,
    output:
        page=report(
            f"{RESULTS}/report.html",
            category="Report",
            caption="../report/report.rst",
        ),
        headline=f"{RESULTS}/headline.txt",
    log:
        f"{RESULTS}/logs/report.log",
    localrule: True
    conda:
        CONDA
    shell:
        r"""
        python {input.script:q} \
            --experiment {input.experiment:q} \
            --notebook {input.notebook:q} \
            --reference results/reference \
            --output {output.page:q} \
            --headline {output.headline:q} \
            2>{log:q}
        """


onsuccess:
    PROGRESS.finish(Path(rules.report.output.headline), Path(rules.report.output.page))
