"""An experiment as its jobs share it: the file that holds its resolved configuration, and its corpus by name."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from footprint.experiment.config import Experiment, parse
from footprint.files import unreadable, write_atomically
from footprint.text.corpus import CorpusSpec, check_size


def corpus_json(spec: CorpusSpec) -> str:
    """The declaration of a corpus as `scripts/corpus.py` takes it."""
    return json.dumps(asdict(spec), sort_keys=True)


def corpus_name(spec: CorpusSpec) -> str:
    """A file name for the bytes of a corpus: the same declaration has the same name, another one another."""
    return hashlib.sha256(corpus_json(spec).encode()).hexdigest()[:16] + ".bin"


@dataclass(frozen=True, slots=True)
class Text:
    """A corpus and the tokens of the longest sequence that is cut from it."""

    spec: CorpusSpec
    seq: int


def texts(experiment: Experiment) -> dict[str, Text]:
    """Every text an experiment trains on, by the name of its file."""
    wanted = [Text(experiment.corpus, experiment.longest_seq)]
    if experiment.study is not None:
        wanted.append(Text(experiment.study.pretraining.corpus, experiment.study.pretraining.seq))
    return {corpus_name(text.spec): text for text in sorted(wanted, key=lambda text: text.seq)}


def check_texts(experiment: Experiment, folder: Path) -> None:
    """Raise FootprintError when a text is prepared already and too short for a run of this experiment."""
    for name, text in texts(experiment).items():
        if (folder / name).exists():
            check_size((folder / name).stat().st_size, text.spec.validation_fraction, text.seq)


def text_of(config: Mapping) -> str:
    """The resolved configuration as its file holds it."""
    return json.dumps(config, sort_keys=True) + "\n"


def renew(path: Path, config: Mapping) -> None:
    """Write the configuration to `path` if another stands there: what was made from that one is then made again.

    Snakemake sees by itself that a parameter changed, but only where its own records of the results are still there.
    """
    try:
        stale = path.is_file() and path.read_text(encoding="utf-8") != text_of(config)
    except (OSError, ValueError):
        stale = True
    if stale:
        write_atomically(path, text_of(config))


def read_experiment(path: Path) -> Experiment:
    """The experiment whose resolved configuration the workflow wrote to `path`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, "experiment file", error) from None
    return parse(config)
