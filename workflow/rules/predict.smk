# What the formulas say, without a device: seconds for the whole grid.


rule predict:
    """Predict peaks and buckets of every run, and the textbook's bytes."""
    input:
        script="scripts/predict.py",
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
