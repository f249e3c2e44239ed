# What the rules share: the experiment the config describes, its runs, and where their files go.
import sys
from glob import glob
from pathlib import Path
from shutil import which

from snakemake.utils import Paramspace

# A clone measures with its own source, whichever clone the environment was installed from.
sys.path.insert(0, f"{workflow.basedir}/src")

from footprint import files
from footprint.errors import user_errors
from footprint.experiment import resolved, yaml_file

# A rule file shares its names with Snakemake, which has a `parse` of its own.
from footprint.experiment.config import parse as parse_config
from footprint.jobs import lease
from footprint.jobs.host_memory import HostMemory, require_host_memory
from footprint.jobs.on_device import leased
from footprint.jobs.pretended import require_rehearsals
from footprint.jobs.progress import COLUMNS, Progress
from footprint.jobs.start import keep_device, lend_interpreter, require_root
from footprint.spec import grid, handover

lend_interpreter(Path(workflow.basedir))

keep_device(config, workflow.config_settings.config)

with user_errors():
    require_root(Path(workflow.basedir))
    # Snakemake has merged the files by now; reading them again refuses what it lets pass (duplicate keys, anchors).
    yaml_file.load(*map(Path, workflow.configfiles))
    EXPERIMENT = parse_config(config)
    resolved.check_texts(EXPERIMENT, Path("results/corpus"))
    files.require_folders(Path(f"results/{EXPERIMENT.name}/{EXPERIMENT.place}"))
    if not workflow.output_settings.dryrun:
        resolved.renew(Path(f"results/{EXPERIMENT.name}/{EXPERIMENT.place}/experiment.json"), config)

# Its name tells its bytes: a text that was fetched anew is the same one, and no reason to train again.
CORPUS = ancient(f"results/corpus/{resolved.corpus_name(EXPERIMENT.corpus)}")

RESULTS = f"results/{EXPERIMENT.name}/{EXPERIMENT.place}"
CONDA = "../../envs/footprint.yaml"

RUNS = Paramspace(grid.frame(EXPERIMENT.runs), filename_params="*", single_wildcard="run")
SPECS = {handover.run_name(spec): spec for spec in EXPERIMENT.runs}
RUN_JSON = {run: handover.run_json(spec, EXPERIMENT.training) for run, spec in SPECS.items()}
GPUS = {run: leased(spec) for run, spec in SPECS.items()}
HOST_MEMORY = HostMemory(EXPERIMENT.runs, EXPERIMENT.training)
PROGRESS = Progress(headline=Path(f"{RESULTS}/headline.txt"), report=Path(f"{RESULTS}/report.html"))

# What the jobs leave, every run's files included: a file that is deleted is made again, for something asks for it.
ROWS = [f"{RESULTS}/runs/{run}.json" for run in RUN_JSON]
TIMELINES = [f"{RESULTS}/timelines/{run}.csv" for run in RUN_JSON]
SIMULATIONS = [f"{RESULTS}/simulations.csv"] if EXPERIMENT.third_opinion else []

STUDY = EXPERIMENT.study
TUNED = {run.name: run for run in STUDY.runs} if STUDY else {}
BASES = STUDY.bases(EXPERIMENT.training) if STUDY else {}
TUNED_ROWS = [f"{RESULTS}/finetunings/{name}.json" for name in TUNED]
TUNED_CURVES = [f"{RESULTS}/finetunings/{name}.csv" for name in TUNED]
STORED = [f"{RESULTS}/stored/{base}.csv" for base in BASES]
QUALITY = [f"{RESULTS}/{name}.csv" for name in ("quality", "curves", "bases")] if STUDY else []


wildcard_constraints:
    run="[^/]+",
    text=r"[0-9a-f]{16}\.bin",


rule experiment:
    """Write the resolved configuration beside the results; the steps after measuring read it instead of the YAML."""
    output:
        f"{RESULTS}/experiment.json",
    log:
        f"{RESULTS}/logs/experiment.log",
    localrule: True
    conda:
        CONDA
    params:
        # A function, for Snakemake would take braces in a plain value for wildcards.
        config=lambda wildcards: resolved.text_of(config),
    shell:
        r"""
        printf '%s' {params.config:q} \
            >{output:q} \
            2>{log:q}
        """
