# Loss and speed beside memory: a base is pretrained once, then fine-tuned in every setting of the study.
STUDY = EXPERIMENT.study
BASES = STUDY.bases(EXPERIMENT.training)
TUNED = {run.name: run for run in STUDY.runs}
TUNED_MEMORY = HostMemory([run.spec for run in TUNED.values()], EXPERIMENT.training)
PRETRAINING_CORPUS = f"results/corpus/{experiment.corpus_name(STUDY.pretraining.corpus)}"
BASE = "results/base/{base}.safetensors"


wildcard_constraints:
    base="[0-9a-f]{16}",
    tuned="[^/]+",


rule pretrain:
    """Pretrain a base, or go on where an interrupted pretraining stopped."""
    input:
        script="scripts/pretrain.py",
        corpus=PRETRAINING_CORPUS,
    output:
        BASE,
    log:
        "results/base/{base}.log",
    benchmark:
        "results/base/{base}.tsv"
    conda:
        CONDA
    threads: EXPERIMENT.training.threads
    resources:
        gpu=int(EXPERIMENT.device == "cuda"),
        runs=1,
        mem_mb=lambda wildcards, attempt: attempt * TUNED_MEMORY.most(),
        runtime=lambda wildcards, attempt: attempt * 240,
    params:
        run=lambda wildcards: BASES[wildcards.base],
        steps=STUDY.pretraining.steps,
        learning_rate=STUDY.pretraining.learning_rate,
        held_out=STUDY.pretraining.corpus.validation_fraction,
    shell:
        r"""
        python {input.script:q} \
            --run {params.run:q} \
            --corpus {input.corpus:q} \
            --held-out {params.held_out} \
            --steps {params.steps} \
            --learning-rate {params.learning_rate} \
            --output {output:q} \
            2>{log:q}
        """


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
        mem_mb=lambda wildcards, attempt: attempt * TUNED_MEMORY.most(),
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


rule store:
    """Validate a base as it is stored in fp32, in half precision and in four bits, before any fine-tuning."""
    input:
        script="scripts/store.py",
        corpus=CORPUS,
        pretraining=PRETRAINING_CORPUS,
        base=BASE,
    output:
        f"{RESULTS}/stored/{{base}}.csv",
    log:
        f"{RESULTS}/logs/{{base}}.log",
    conda:
        CONDA
    threads: EXPERIMENT.training.threads
    resources:
        gpu=int(EXPERIMENT.device == "cuda"),
        runs=1,
        mem_mb=lambda wildcards, attempt: attempt * TUNED_MEMORY.most(),
        runtime=lambda wildcards, attempt: attempt * 60,
    params:
        run=lambda wildcards: BASES[wildcards.base],
        held_out=EXPERIMENT.corpus.validation_fraction,
        pretraining_held_out=STUDY.pretraining.corpus.validation_fraction,
        validation_sequences=STUDY.finetuning.validation_sequences,
    shell:
        r"""
        python {input.script:q} \
            --run {params.run:q} \
            --corpus {input.corpus:q} \
            --held-out {params.held_out} \
            --base {input.base:q} \
            --pretraining-corpus {input.pretraining:q} \
            --pretraining-held-out {params.pretraining_held_out} \
            --validation-sequences {params.validation_sequences} \
            --output {output:q} \
            2>{log:q}
        """


rule gather_quality:
    """Gather what the fine-tunings lost and took into tables."""
    input:
        script="scripts/gather_quality.py",
        experiment=f"{RESULTS}/experiment.json",
        rows=[f"{RESULTS}/finetunings/{name}.json" for name in TUNED],
        curves=[f"{RESULTS}/finetunings/{name}.csv" for name in TUNED],
        stored=[f"{RESULTS}/stored/{base}.csv" for base in BASES],
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
            --quality {output.quality:q} \
            --curves {output.curves:q} \
            --bases {output.bases:q} \
            2>{log:q}
        """
