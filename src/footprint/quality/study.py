"""The quality study: which base is pretrained, and which runs are fine-tuned from it with which seeds. Torch-free."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

from footprint.errors import FootprintError
from footprint.spec.checks import require
from footprint.spec.grid import MOST_RUNS, expand_grid
from footprint.spec.handover import run_json, run_name
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.text.corpus import CorpusSpec

BYTE_VALUES = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretraining:
    """How a base is made: full training in fp32 under autocast (`amp`), from random weights."""

    corpus: CorpusSpec
    steps: int
    batch: int
    seq: int
    learning_rate: float
    """The highest; see `schedule.warmup_then_cosine`."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finetuning:
    """How long and how fast a run is fine-tuned, and how often it is validated."""

    steps: int
    learning_rate: Mapping[str, float]
    """By regime: adapters start at zero and want more."""
    validate_every: int
    """Steps between two validations; there is one before the first step and one after the last."""
    validation_sequences: int
    """Held-out sequences of the run's length that a validation reads, at most."""

    def pace(self, regime: str) -> "Pace":
        """What a run of one regime takes of it."""
        return Pace(**asdict(self) | {"learning_rate": self.learning_rate[regime]})


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """`Finetuning` for one regime: what the job of a run is told."""

    steps: int
    learning_rate: float
    validate_every: int
    validation_sequences: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedRun:
    """One fine-tuning: a cell of the grid and the seed of its adapters and batches."""

    spec: RunSpec
    seed: int

    @property
    def name(self) -> str:
        """The name of its files without suffix."""
        return f"{run_name(self.spec)}_seed~{self.seed}"

    def json(self, training: TrainingSpec) -> str:
        """What a job must know of it, as `handover.parse_run` reads it."""
        return run_json(self.spec, replace(training, seed=self.seed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Everything the `quality` section of a config says, checked."""

    pretraining: Pretraining
    finetuning: Finetuning
    runs: tuple[TunedRun, ...]

    @property
    def longest_seq(self) -> int:
        """Tokens of the longest sequence a run takes from the corpus it is fine-tuned on."""
        return max(run.spec.seq for run in self.runs)

    @property
    def specs(self) -> list[RunSpec]:
        """Every cell of the grid that is trained in: those of the runs and those the bases are pretrained in."""
        bases = (self.base_run(run.spec.model, run.spec.device) for run in self.runs)
        return list(dict.fromkeys([*(run.spec for run in self.runs), *bases]))

    def bases(self, training: TrainingSpec) -> dict[str, str]:
        """The JSON of the run that pretrains each base, by the name of its file.

        A base is shared by all experiments that declare it alike: its name tells the declaration, the model, the
        device and whatever else decides its bits.
        """
        specs = dict.fromkeys(self.base_run(run.spec.model, run.spec.device) for run in self.runs)
        runs = [run_json(spec, self.base_training(training)) for spec in specs]
        return {self._base_name(run): run for run in runs}

    def base_of(self, run: TunedRun, training: TrainingSpec) -> str:
        """The file name of the base a run starts from."""
        base = self.base_run(run.spec.model, run.spec.device)
        return self._base_name(run_json(base, self.base_training(training)))

    def base_run(self, model: ModelSpec, device: str) -> RunSpec:
        """The cell of the grid a model is pretrained in."""
        declared = self.pretraining
        return RunSpec(
            model=model, regime="full", precision="amp", batch=declared.batch, seq=declared.seq, device=device
        )

    def base_training(self, training: TrainingSpec) -> TrainingSpec:
        """What of an experiment's settings a pretraining depends on; the rest is left at its default."""
        return TrainingSpec(seed=self.pretraining.seed, half=training.half, threads=training.threads)

    def _base_name(self, run: str) -> str:
        declared = json.dumps([run, asdict(self.pretraining)], sort_keys=True)
        return hashlib.sha256(declared.encode()).hexdigest()[:16]


def parse_study(section: Mapping, models: Mapping[str, ModelSpec], device: str, training: TrainingSpec) -> Study:
    """The study a checked `quality` section describes; FootprintError names the first key that is wrong."""
    pretraining = Pretraining(**section["pretraining"] | {"corpus": _corpus(section["pretraining"]["corpus"])})
    finetuning = Finetuning(**section["finetuning"])
    fewest = training.warmup_steps + training.measured_steps + 1
    require(
        finetuning.steps >= fewest,
        "quality.finetuning.steps",
        finetuning.steps,
        f"at least {fewest}: training's warmup_steps and measured_steps, and one for the clock",
    )
    runs = _runs(section["grids"], models, device)
    for run in runs:
        _check(run.spec, pretraining)
    return Study(pretraining=pretraining, finetuning=finetuning, runs=runs)


def _corpus(entries: Mapping) -> CorpusSpec:
    try:
        return CorpusSpec(**entries)
    except FootprintError as error:
        raise FootprintError(f"quality.pretraining.{error}") from None


def _runs(grids: Sequence[Mapping], models: Mapping[str, ModelSpec], device: str) -> tuple[TunedRun, ...]:
    runs: dict[TunedRun, None] = {}
    for number, grid in enumerate(grids):
        axes = {axis: value for axis, value in grid.items() if axis != "seed"}
        seeds = grid.get("seed", 0)
        specs = expand_grid(axes, models, device, f"quality.grids[{number}]")
        pairs = product(specs, seeds if isinstance(seeds, list) else [seeds])
        runs |= dict.fromkeys(TunedRun(spec=spec, seed=seed) for spec, seed in pairs)
    most = len(runs) <= MOST_RUNS
    require(most, "quality.grids", len(runs), f"at most {MOST_RUNS} runs")
    return tuple(runs)


def _check(spec: RunSpec, pretraining: Pretraining) -> None:
    """A base that the run can start from: bytes for tokens, positions that have been trained."""
    model = spec.model
    require(spec.stack == "minigpt", "quality.grids.stack", spec.stack, "minigpt, whose bases are pretrained here")
    require(spec.gpus == 1, "quality.grids.gpus", spec.gpus, "1: a study compares losses and times on one device")
    bytes_fit = model.vocab >= BYTE_VALUES
    require(bytes_fit, f"models.{model.name}.vocab", model.vocab, f"at least {BYTE_VALUES} for a quality study")
    known = pretraining.seq <= model.context
    require(known, "quality.pretraining.seq", pretraining.seq, f"at most {model.context}, the context of {model.name}")
    require(spec.seq <= pretraining.seq, "quality.grids.seq", spec.seq, f"at most pretraining's seq {pretraining.seq}")
