# Loss and speed beside memory: the base of each model is fine-tuned in every setting of the study.


wildcard_constraints:
    tuned="[^/]+",


rule finetune:
    """Fine-tune a base in one setting with one seed, its first steps under the memory recorder."""
    input:
        script="scripts/finetune.py",
        corpus=CORPUS,
        base=lambda wildcards: BASE.format(base=STUDY.base_of(TUNED[wildcards.tuned], EXPERIMENT.training)),
    output:
        row=f"{RESULTS}/finetunings/{{tuned}}.json",
        curve=f"{RESULTS}/finetunings/{{tuned}}.csv",
    log:
        f"{RESULTS}/logs/{{tuned}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{tuned}}.tsv"
    conda:
        CONDA
    threads: EXPERIMENT.training.threads
    resources:
        gpu=int(EXPERIMENT.device == "cuda"),
        runs=1,
        mem_mb=lambda wildcards, attempt: attempt * STUDY_MEMORY.most(),
        runtime=lambda wildcards, attempt: attempt * 240,
    params:
        run=lambda wildcards: TUNED[wildcards.tuned].json(EXPERIMENT.training),
        held_out=EXPERIMENT.corpus.validation_fraction,
        steps=STUDY.finetuning.steps,
        learning_rate=lambda wildcards: STUDY.finetuning.learning_rate[TUNED[wildcards.tuned].spec.regime],
        validate_every=STUDY.finetuning.validate_every,
        validation_sequences=STUDY.finetuning.validation_sequences,
    shell:
        r"""
        python {input.script:q} \
            --run {params.run:q} \
            --corpus {input.corpus:q} \
            --held-out {params.held_out} \
            --base {input.base:q} \
            --steps {params.steps} \
            --learning-rate {params.learning_rate} \
            --validate-every {params.validate_every} \
            --validation-sequences {params.validation_sequences} \
            --output {output.row:q} \
            --curve {output.curve:q} \
            2>{log:q}
        """


rule gather_quality:
    """Gather what the fine-tunings lost and took into tables."""
    input:
        script="scripts/gather_quality.py",
        experiment=f"{RESULTS}/experiment.json",
        rows=TUNED_ROWS,
        curves=TUNED_CURVES,
        stored=STORED,
    output:
        **{
            name: report(
                f"{RESULTS}/{name}.csv",
                category="Tables",
                caption=f"../report/{name}.rst",
            )
            for name in ("quality", "curves", "bases")
        },
    log:
        f"{RESULTS}/logs/gather_quality.log",
    localrule: True
    conda:
        CONDA
    params:
        # The folders instead of their files: thousands of names do not fit on a command line.
        finetunings=lambda wildcards, input: Path(input.rows[0]).parent,
        stored=lambda wildcards, input: Path(input.stored[0]).parent,
    shell:
        r"""
        python {input.script:q} \
            --experiment {input.experiment:q} \
            --finetunings {params.finetunings:q} \
            --stored {params.stored:q} \
            --output {output.quality:q} \
            --curves {output.curves:q} \
            --bases {output.bases:q} \
            2>{log:q}
        """
