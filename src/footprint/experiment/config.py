"""What an experiment is: the config, checked by the schema and by the specs, as one frozen object. Torch-free."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from footprint.experiment.schema import check
from footprint.quality.study import Study, parse_study
from footprint.spec.cards import find
from footprint.spec.checks import require
from footprint.spec.grid import expand
from footprint.spec.handover import run_name
from footprint.spec.model import ModelSpec
from footprint.spec.recipe import Recipe
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.text.corpus import CorpusSpec

RESERVED_EXPERIMENTS = ("base", "bench", "corpus", "reference")
"""Folders of results/ that are not experiments."""

_NOT_TEXT_IN_A_TABLE = ("na", "null", "none", "true", "false")
"""What pandas, R or a spreadsheet takes for a missing or a truth value in the model column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """Everything a config says, checked."""

    name: str
    device: str
    card: str | None
    """The card that the runs are rehearsed on; None where they are measured."""
    runs: tuple[RunSpec, ...]
    training: TrainingSpec
    corpus: CorpusSpec
    engine: str
    """What renders the report: auto, quarto or nbconvert."""
    third_opinion: bool
    """Whether every run is simulated too; never on CUDA, where it would need a device of its own."""
    study: Study | None
    """Loss and speed beside memory; None where the config has no `quality`, and on a card."""

    @property
    def place(self) -> str:
        """The folder of its results under its name: a device, or a card with the word rehearsed."""
        return self.device if self.card is None else f"{self.card}-rehearsed"

    @property
    def longest_seq(self) -> int:
        """Tokens of the longest sequence a run takes from the corpus."""
        measured = max(run.seq for run in self.runs)
        return measured if self.study is None else max(measured, self.study.longest_seq)


def parse(config: Mapping) -> Experiment:
    """The experiment a config describes; FootprintError names the first key that is wrong and what it may be."""
    config = check(config)
    name, device = config["experiment"], config.get("device", "cpu")
    reserved = name.lower() in RESERVED_EXPERIMENTS
    require(not reserved, "experiment", name, f"a name other than {', '.join(RESERVED_EXPERIMENTS)}")
    card = _card(config.get("card"), device)
    models = {model: _model(model, sizes) for model, sizes in config.get("models", {}).items()}
    training = _training(config.get("training", {}), device)
    quality = config.get("quality")
    runs = expand(config["grids"], models, device)
    _check_names(runs)
    recipes = _recipes(config.get("transformers", {}), runs, training)
    return Experiment(
        name=name,
        device=device,
        card=card,
        runs=tuple(replace(run, card=card, recipe=recipes[run.model.name]) for run in runs),
        training=training,
        corpus=CorpusSpec(**config["corpus"]),
        engine=config.get("report", {}).get("engine", "auto"),
        third_opinion=config.get("report", {}).get("third_opinion", False) and device == "cpu",
        # A rehearsal has no losses to study.
        study=None if quality is None or card is not None else parse_study(quality, models, device, training),
    )


def _check_names(runs: Iterable[RunSpec]) -> None:
    """Raise FootprintError for a run whose files no file system can name."""
    for run in runs:
        size = len(run_name(run)) + len(".json")
        allowed = f"a shorter name: files of its runs would have names of {size} characters, and 255 are possible"
        require(size <= 255, "models", run.model.name, allowed)


def _card(name: str | None, device: str) -> str | None:
    if name is None:
        return None
    require(device == "cuda", "card", name, "null, or device: cuda with it: a card is rehearsed by the CUDA build")
    return find(name).key


def _model(name: str, sizes: Mapping) -> ModelSpec:
    text = name.lower() not in _NOT_TEXT_IN_A_TABLE and not _is_number(name)
    require(text, "models", name, "a name that a table does not read as a number, a truth value or as missing")
    return ModelSpec(name=name, **sizes)


def _is_number(name: str) -> bool:
    """Whether a reader of a CSV may turn it into a number (1e5, inf and nan included)."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def _recipes(entries: Mapping, runs: Iterable[RunSpec], training: TrainingSpec) -> dict[str, Recipe]:
    """How each model is set up under Transformers."""
    folders, names = entries.get("weights", {}), {run.model.name for run in runs if run.stack == "transformers"}
    for name, folder in folders.items():
        require(name in names, f"transformers.weights.{name}", folder, "a model of a grid with stack transformers")
    told = {key: value for key, value in entries.items() if key != "weights"} | {"half": training.half}
    return {run.model.name: Recipe(**told, weights=folders.get(run.model.name)) for run in runs}


def _training(entries: Mapping, device: str) -> TrainingSpec:
    limit = entries.get("memory_limit")
    # A number in a file means what it means on the command line: 24 is 24 GiB.
    training = TrainingSpec(**entries | {"memory_limit": limit if limit is None else str(limit)})
    require_half(training, device)
    return training


def require_half(training: TrainingSpec, device: str) -> None:
    """Raise FootprintError where the device has no kernels for the half-precision type."""
    runs_here = training.half == "bf16" or device == "cuda"
    require(runs_here, "training.half", training.half, f"bf16 on device {device} (fp16 needs device: cuda)")
