# One job per run of the grid: the only jobs that train, and the only ones that need a device.


onstart:
    # Jobs of a cluster find their GPUs where they run; only here can their absence be told before anything starts.
    if EXPERIMENT.device == "cuda" and workflow.local_exec:
        with user_errors():
            require_rehearsals(EXPERIMENT.card) if EXPERIMENT.card else lease.require_devices(max(GPUS.values()))
    if workflow.local_exec:
        with user_errors():
            jobs = workflow.dag.needrun_jobs()
            require_host_memory(handover.parse_run(job.params.run) for job in jobs if "run" in job.params.keys())
    with user_errors():
        files.require_writable(Path(RESULTS))
    PROGRESS.start(
        (job.rule.name, job.output.row) for job in workflow.dag.needrun_jobs() if job.rule.name in COLUMNS
    )


rule measure:
    """Train one run in a fresh process under the memory recorder and write its row."""
    input:
        script="scripts/measure.py",
        corpus=CORPUS,
    output:
        row=report(
            f"{RESULTS}/runs/{RUNS.wildcard_pattern}.json",
            category="Runs",
            labels=lambda wildcards: handover.labels(RUN_JSON[wildcards.run]),
            caption="../report/run.rst",
        ),
        timeline=f"{RESULTS}/timelines/{RUNS.wildcard_pattern}.csv",
    log:
        f"{RESULTS}/logs/{RUNS.wildcard_pattern}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{RUNS.wildcard_pattern}.tsv"
    conda:
        CONDA
    # A rehearsal has no times to disturb.
    threads: lambda wildcards: 1 if EXPERIMENT.card else EXPERIMENT.training.threads * SPECS[wildcards.run].gpus
    resources:
        gpu=lambda wildcards: GPUS[wildcards.run],
        runs=1,
        mem_mb=lambda wildcards, attempt: attempt * HOST_MEMORY.megabytes(wildcards.run),
        runtime=lambda wildcards, attempt: attempt * 10,
    params:
        run=lambda wildcards: RUN_JSON[wildcards.run],
        held_out=EXPERIMENT.corpus.validation_fraction,
    shell:
        r"""
        python {input.script:q} \
            --run {params.run:q} \
            --corpus {input.corpus:q} \
            --held-out {params.held_out} \
            --output {output.row:q} \
            --timeline {output.timeline:q} \
            2>{log:q}
        """
