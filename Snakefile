# The memory-footprint experiment: measure, predict, compare, report. Rules are in workflow/rules, logic in src/footprint.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/gather.smk"
include: "workflow/rules/report.smk"


if EXPERIMENT.study:

    include: "workflow/rules/bases.smk"
    include: "workflow/rules/quality.smk"


rule all:
    """The tables and the report of the configured experiment, and the files of its runs that they are checked against.

    Not the texts and bases: where one was deleted, Snakemake would train again whatever was trained on it.
    """
    default_target: True
    input:
        f"{RESULTS}/experiment.json",
        ROWS,
        TIMELINES,
        SIMULATIONS,
        f"{RESULTS}/measurements.csv",
        f"{RESULTS}/predictions.csv",
        f"{RESULTS}/comparison.csv",
        TUNED_ROWS,
        TUNED_CURVES,
        STORED,
        QUALITY,
        f"{RESULTS}/manifest.json",
        rules.report.output,
