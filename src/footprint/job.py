"""One measured run from its JSON to its file: read the corpus, draw the batches, measure, write the row."""

from pathlib import Path

import torch

from footprint import corpus
from footprint.corpus import VALIDATION_FRACTION
from footprint.measure import batches_needed, measure, require_device
from footprint.plan import parse_run
from footprint.records import MEASUREMENTS, write_row
from footprint.timeline import write_timeline


def measure_run(run: str, corpus_file: str, output: str, timeline: str, held_out: float = VALIDATION_FRACTION) -> None:
    """Measure the run described by the JSON `run` on the text in `corpus_file`; its row is written to `output`,
    what was live through one step to `timeline`.

    `held_out` is the fraction of the text kept for validation, at its end.

    Call it once per process: the process is part of what is measured.
    """
    spec, training = parse_run(run)
    require_device(spec.device)
    text, _ = corpus.split(Path(corpus_file), held_out)
    batches = corpus.batches(
        text,
        batch=spec.batch,
        seq=spec.seq,
        steps=batches_needed(training),
        seed=training.seed,
        vocab=spec.model.vocab,
    )
    tensors = [(torch.from_numpy(tokens), torch.from_numpy(targets)) for tokens, targets in batches]
    measurement = measure(spec, training, tensors)
    write_timeline(Path(timeline), measurement.timeline)
    write_row(Path(output), measurement.row, MEASUREMENTS)
