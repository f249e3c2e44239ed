# From one file per run to tables.


rule gather:
    """Gather the rows of all runs into one table."""
    input:
        script="scripts/gather.py",
        experiment=f"{RESULTS}/experiment.json",
        rows=ROWS,
    output:
        report(
            f"{RESULTS}/measurements.csv",
            category="Tables",
            caption="../report/measurements.rst",
        ),
    log:
        f"{RESULTS}/logs/gather.log",
    localrule: True
    conda:
        CONDA
    params:
        # The folder instead of its files: thousands of names do not fit on a command line.
        runs=lambda wildcards, input: Path(input.rows[0]).parent,
    shell:
        r"""
        python {input.script:q} \
            --experiment {input.experiment:q} \
            --runs {params.runs:q} \
            --output {output:q} \
            2>{log:q}
        """


rule compare:
    """Join what was measured with what was predicted, one row per run."""
    input:
        script="scripts/compare.py",
        measurements=f"{RESULTS}/measurements.csv",
        predictions=f"{RESULTS}/predictions.csv",
        simulations=SIMULATIONS,
    output:
        report(
            f"{RESULTS}/comparison.csv",
            category="Tables",
            caption="../report/comparison.rst",
        ),
    log:
        f"{RESULTS}/logs/compare.log",
    localrule: True
    conda:
        CONDA
    params:
        simulations=lambda wildcards, input: [f"--simulations={path}" for path in input.simulations],
    shell:
        r"""
        python {input.script:q} \
            --measurements {input.measurements:q} \
            --predictions {input.predictions:q} \
            {params.simulations:q} \
            --output {output:q} \
            2>{log:q}
        """


rule manifest:
    """Write down what the tables were made of, and the command that makes them again."""
    input:
        script="scripts/manifest.py",
        experiment=f"{RESULTS}/experiment.json",
        texts=[f"results/corpus/{name}" for name in TEXTS],
        tables=[f"{RESULTS}/{name}.csv" for name in ("measurements", "predictions", "comparison")] + QUALITY,
    output:
        report(
            f"{RESULTS}/manifest.json",
            category="Tables",
            caption="../report/manifest.rst",
        ),
    log:
        f"{RESULTS}/logs/manifest.log",
    localrule: True
    conda:
        CONDA
    shell:
        r"""
        python {input.script:q} \
            --experiment {input.experiment:q} \
            --texts {input.texts:q} \
            --tables {input.tables:q} \
            --output {output:q} \
            2>{log:q}
        """
