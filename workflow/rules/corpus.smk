# The text every run trains on.


rule corpus:
    """Fetch the configured text, check its sha256, write its bytes as one flat file named after what they are."""
    input:
        script="scripts/corpus.py",
    output:
        CORPUS,
    log:
        f"{CORPUS}.log",
    localrule: True  # compute nodes often have no network
    conda:
        CONDA
    params:
        corpus=experiment.corpus_json(EXPERIMENT.corpus),
        # A longer sequence must fit but leaves the text as it is; functions of the input trigger no rerun.
        seq=lambda wildcards, input: EXPERIMENT.longest_seq,
    shell:
        r"""
        python {input.script:q} \
            --corpus {params.corpus:q} \
            --seq {params.seq} \
            --output {output:q} \
            2>{log:q}
        """
