# From one file per run to tables.


rule gather:
    """Gather the rows of all runs into one table."""
    input:
        script="scripts/gather.py",
        experiment=f"{RESULTS}/experiment.json",
        rows=[f"{RESULTS}/runs/{run}.json" for run in RUNS.instance_patterns],
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
        simulations=[f"{RESULTS}/simulations.csv"] if EXPERIMENT.third_opinion else [],
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
