"""An experiment as its jobs share it: the file that holds its resolved configuration, and its corpus by name."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from footprint.config import Experiment, parse
from footprint.corpus import CorpusSpec, check_size
from footprint.errors import FootprintError


def corpus_json(spec: CorpusSpec) -> str:
    """The declaration of a corpus as `scripts/corpus.py` takes it."""
    return json.dumps(asdict(spec), sort_keys=True)


def corpus_name(spec: CorpusSpec) -> str:
    """A file name for the bytes of a corpus: the same declaration has the same name, another one another."""
    return hashlib.sha256(corpus_json(spec).encode()).hexdigest()[:16] + ".bin"


def check_text(experiment: Experiment, prepared: Path) -> None:
    """Raise FootprintError when the corpus is prepared already and too short for a run of this experiment."""
    if prepared.exists():
        check_size(prepared.stat().st_size, experiment.corpus.validation_fraction, experiment.longest_seq)


def read_experiment(path: Path) -> Experiment:
    """The experiment whose resolved configuration the workflow wrote to `path`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FootprintError(f"{path}: not a readable experiment file ({error})") from None
    return parse(config)
