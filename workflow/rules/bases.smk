# The bases of a quality study: pretrained once, judged in every form they can be stored in.
STUDY_MEMORY = HostMemory(STUDY.specs, EXPERIMENT.training)
PRETRAINING_CORPUS = ancient(f"results/corpus/{resolved.corpus_name(STUDY.pretraining.corpus)}")
BASE = "results/base/{base}.safetensors"


wildcard_constraints:
    base="[0-9a-f]{16}",


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
        mem_mb=lambda wildcards, attempt: attempt * STUDY_MEMORY.most(),
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
        mem_mb=lambda wildcards, attempt: attempt * STUDY_MEMORY.most(),
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
