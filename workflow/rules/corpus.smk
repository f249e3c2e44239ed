# The texts runs train on.
TEXTS = resolved.texts(EXPERIMENT)


rule corpus:
    """Fetch a configured text, check its sha256, write its bytes as one flat file named after what they are."""
    input:
        script="scripts/corpus.py",
    output:
        text="results/corpus/{text}",
        sha256="results/corpus/{text}.sha256",
    log:
        "results/corpus/{text}.log",
    localrule: True  # compute nodes often have no network
    conda:
        CONDA
    params:
        corpus=lambda wildcards: resolved.corpus_json(TEXTS[wildcards.text].spec),
        # A longer sequence must fit but leaves the text as it is; functions of the input trigger no rerun.
        seq=lambda wildcards, input: TEXTS[wildcards.text].seq,
    shell:
        r"""
        python {input.script:q} \
            --corpus {params.corpus:q} \
            --seq {params.seq} \
            --output {output.text:q} \
            2>{log:q}
        """
