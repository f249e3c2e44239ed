"""The jobs that need PyTorch, each from plain arguments to its file.

Call one per process: it measures the whole process.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from footprint.jobs.host_memory import require_host_memory
from footprint.jobs.stacks import batches_taken, carry_out
from footprint.measure.measurement import require_device
from footprint.measure.recorded_run import Batches
from footprint.quality.base import Base, pretrain
from footprint.quality.finetuning import finetune
from footprint.quality.storage import starting_points
from footprint.quality.study import Pace
from footprint.quality.validation import tensors
from footprint.spec.columns import BASES, MEASUREMENTS, TUNED
from footprint.spec.handover import asked, parse_run
from footprint.spec.run import RunSpec
from footprint.spec.timeline import write_timeline
from footprint.spec.training import TrainingSpec
from footprint.tables.rows import write_row, write_table
from footprint.text import corpus
from footprint.text.corpus import VALIDATION_FRACTION


def measure_run(run: str, corpus_file: str, output: str, timeline: str, held_out: float = VALIDATION_FRACTION) -> None:
    """Measure the run described by the JSON `run` on the text in `corpus_file`; its row is written to `output`,
    what was live through one step to `timeline`.

    `held_out` is the fraction of the text kept for validation, at its end.
    """
    spec, training, _ = _given(run, corpus_file, held_out)
    measurement = carry_out(spec, training, partial(_batches, spec, training, corpus_file, held_out))
    write_timeline(Path(timeline), measurement.timeline)
    write_row(Path(output), measurement.row, MEASUREMENTS, asked(run, corpus_file), timeline=Path(timeline))


def _batches(spec: RunSpec, training: TrainingSpec, corpus_file: str, held_out: float) -> Batches:
    text, _ = corpus.split(Path(corpus_file), held_out)
    cut = {"batch": spec.batch, "seq": spec.seq, "vocab": spec.model.vocab}
    return tensors(corpus.batches(text, steps=batches_taken(spec, training), seed=training.seed, **cut))


def pretrain_base(
    run: str, corpus_file: str, output: str, steps: int, learning_rate: float, held_out: float = VALIDATION_FRACTION
) -> None:
    """Pretrain the base described by the JSON `run` on the text in `corpus_file` and write it to `output`."""
    spec, training, (text, _) = _given(run, corpus_file, held_out)
    pretrain(spec, training, text, steps=steps, learning_rate=learning_rate, output=Path(output))


def finetune_run(
    run: str,
    corpus_file: str,
    base: str,
    output: str,
    curve: str,
    held_out: float = VALIDATION_FRACTION,
    **pace: int | float,
) -> None:
    """Fine-tune a `base` as the JSON `run` and `pace` (the fields of `Pace`) say; its row is written to `output`,
    its losses to `curve`.
    """
    spec, training, texts = _given(run, corpus_file, held_out)
    row, points = finetune(spec, training, Pace(**pace), Base(Path(base), spec.model), texts)
    write_table(Path(curve), points)
    told = asked(run, corpus_file, base=Path(base).name, **pace)
    write_row(Path(output), row, TUNED, told, curve=Path(curve))


def store_base(
    run: str,
    corpus_file: str,
    base: str,
    output: str,
    pretraining_corpus: str,
    pretraining_held_out: float,
    validation_sequences: int,
    held_out: float = VALIDATION_FRACTION,
) -> None:
    """Store a `base`, which `run` pretrained, in every form there is and write what each costs to `output`."""
    spec, training, (_, finetuning) = _given(run, corpus_file, held_out)
    _, pretraining = corpus.split(Path(pretraining_corpus), pretraining_held_out)
    texts = {"pretraining": pretraining, "finetuning": finetuning}
    rows = starting_points(spec, training, Base(Path(base), spec.model), texts, sequences=validation_sequences)
    write_table(Path(output), pd.DataFrame(rows, columns=list(BASES)))


def _given(run: str, corpus_file: str, held_out: float) -> tuple[RunSpec, TrainingSpec, tuple[np.ndarray, np.ndarray]]:
    spec, training = parse_run(run)
    require_device(spec.device, spec.card)
    require_host_memory([(spec, training)])
    return spec, training, corpus.split(Path(corpus_file), held_out)
