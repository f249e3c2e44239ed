"""One fine-tuning from a base: the first steps under the recorder, then on to the end, validated on the way."""

from math import log2
from statistics import fmean

import numpy as np
import pandas as pd

from footprint.measure.measurement import Steps, measured
from footprint.measure.recorded_run import RecordedRun
from footprint.quality.base import Base
from footprint.quality.schedule import warmup_then_cosine
from footprint.quality.study import Pace
from footprint.quality.validation import bits_per_byte, in_bits, tensors
from footprint.spec.columns import CURVES, TUNED, TUNED_RESULTS
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.text import corpus
from footprint.train.loop import StepResult

LAST = 0.1
"""Part of the steps, at the end, whose mean loss is the final training loss: one batch says little."""


def finetune(
    spec: RunSpec, training: TrainingSpec, pace: Pace, base: Base, texts: tuple[np.ndarray, np.ndarray]
) -> tuple[dict[str, object], pd.DataFrame]:
    """The row of `quality.csv` and the points of `curves.csv` of one run; call it once per fresh process.

    `texts` are the training and the held-out part, uint8 (bytes,).
    """
    return _Finetuning(spec, training, pace, base, texts).outcome()


class _Finetuning:
    def __init__(
        self, spec: RunSpec, training: TrainingSpec, pace: Pace, base: Base, texts: tuple[np.ndarray, np.ndarray]
    ) -> None:
        self._run, self._pace, self._base = RecordedRun(spec, training), pace, base
        cut = {"batch": spec.batch, "seq": spec.seq, "vocab": spec.model.vocab}
        self._batches = corpus.stream(texts[0], steps=pace.steps, seed=training.seed, **cut)
        self._held_out = tensors(corpus.held_out(texts[1], sequences=pace.validation_sequences, **cut))
        self._validations: dict[int, float] = {}
        self._losses: list[float] = []
        self._seconds = 0.0

    def outcome(self) -> tuple[dict[str, object], pd.DataFrame]:
        """Train, then tell."""
        measurement = measured(self._run, self._train).row
        common = {"seed": self._run.training.seed, "base": self._base.name, "learning_rate": self._pace.learning_rate}
        row = dict.fromkeys(TUNED) | {name: measurement[name] for name in TUNED if name in measurement} | common
        if row["status"] == "ok":
            row |= self._told()
        if row["status"] == "ok" and self._knows_less_than_nothing():
            row |= dict.fromkeys(TUNED_RESULTS) | {"status": "diverged"}
        # A card too small for the first steps leaves no loss; on the CPU it is imitated when all of them are done.
        return row, self._curve() if row["status"] != "oom" else pd.DataFrame(columns=list(CURVES))

    def _knows_less_than_nothing(self) -> bool:
        """Whether the loss has risen, and above that of guessing every token alike, or is no number any more."""
        last, vocab = self._validations[self._pace.steps], self._run.spec.model.vocab
        return not last <= max(self._validations[0], log2(vocab))

    def _train(self) -> Steps:
        run, pace = self._run, self._pace
        schedule = warmup_then_cosine(pace.steps)
        run.build(fill=self._base.fill, rate=pace.learning_rate, schedule=schedule)
        with run.phase("validate"):
            self._validate(0)
        recorded = run.record(self._next(run.recorded_steps))
        self._keep(recorded)
        timed: list[StepResult] = []
        done = len(recorded)
        while done < pace.steps:
            stop = min(pace.steps, (done // pace.validate_every + 1) * pace.validate_every)
            latest = run.go_on(self._next(stop - done))
            self._keep(latest)
            timed += latest
            done = stop
            self._validate(done)
        return recorded, timed

    def _next(self, steps: int) -> list:
        return tensors(next(self._batches) for _ in range(steps))

    def _keep(self, steps: list[StepResult]) -> None:
        self._losses += [in_bits(step.loss) for step in steps]
        self._seconds += sum(sum(step.seconds.values()) for step in steps)

    def _validate(self, step: int) -> None:
        run = self._run
        self._validations[step] = bits_per_byte(run.model, self._held_out, run.spec, half=run.half)

    def _told(self) -> dict[str, object]:
        last = max(1, round(LAST * len(self._losses)))
        return {
            "steps": len(self._losses),
            "base_bits_per_byte": self._validations[0],
            "validation_bits_per_byte": self._validations[self._pace.steps],
            "training_bits_per_byte": fmean(self._losses[-last:]),
            "training_seconds": self._seconds,
        }

    def _curve(self) -> pd.DataFrame:
        points = [("training", step, loss) for step, loss in enumerate(self._losses, start=1)]
        points += [("validation", step, loss) for step, loss in self._validations.items()]
        common = self._run.spec.axes() | {"seed": self._run.training.seed}
        rows = [common | {"split": split, "step": step, "bits_per_byte": loss} for split, step, loss in points]
        return pd.DataFrame(rows, columns=list(CURVES))
