# What the formulas say, without a device: seconds for the whole grid.


rule predict:
    """Predict peaks and buckets of every run, and the textbook's bytes."""
    input:
        script="scripts/predict.py",
        # Predictions of today's formulas stand beside what was measured earlier.
        formulas=sorted(glob("src/footprint/predict/**/*.py", recursive=True) + glob("src/footprint/spec/*.*")),
        experiment=f"{RESULTS}/experiment.json",
    output:
        report(
            f"{RESULTS}/predictions.csv",
            category="Tables",
            caption="../report/predictions.rst",
        ),
    log:
        f"{RESULTS}/logs/predict.log",
    localrule: True
    conda:
        CONDA
    shell:
        r"""
        python {input.script:q} \
            --experiment {input.experiment:q} \
            --output {output:q} \
            2>{log:q}
        """


rule simulate:
    """Ask the third opinion: the real program's tensors counted by PyTorch's dispatcher, without an allocator."""
    input:
        script="scripts/simulate.py",
        experiment=f"{RESULTS}/experiment.json",
    output:
        f"{RESULTS}/simulations.csv",
    log:
        f"{RESULTS}/logs/simulate.log",
    benchmark:
        f"{RESULTS}/benchmarks/simulate.tsv"
    conda:
        CONDA
    # As many as a run takes, so that on one machine it never runs beside one and disturbs its timing.
    threads: EXPERIMENT.training.threads
    resources:
        mem_mb=lambda wildcards, attempt: attempt * HOST_MEMORY.most(),
        runtime=lambda wildcards, attempt: attempt * 60,
    shell:
        r"""
        python {input.script:q} \
            --experiment {input.experiment:q} \
            --output {output:q} \
            2>{log:q}
        """
