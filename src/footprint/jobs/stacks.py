"""One run in this process, whichever stack it has."""

import warnings
from contextlib import nullcontext

from footprint.errors import FootprintError, in_one_line
from footprint.jobs.fresh import random_batches
from footprint.measure.measurement import Batches, Measurement, batches_needed, measure
from footprint.measure.trace.reader import TraceError
from footprint.rehearsal.launch import real_values
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec


def batches_taken(spec: RunSpec, training: TrainingSpec) -> int:
    """Batches of one measurement: under Transformers a step may take several."""
    return batches_needed(training) * (1 if spec.recipe is None else spec.recipe.accumulation)


def carry_out(spec: RunSpec, training: TrainingSpec, batches: Batches | None = None) -> Measurement:
    """Measure or rehearse a run, on `batches_taken` batches or else on random tokens.

    Transformers decides by small integers, such as positions, whether it makes a mask: a rehearsal carries them out.
    Raises FootprintError for whatever a config or a recipe makes a model stumble over.
    """
    if spec.stack == "minigpt":
        return measure(spec, training, batches or random_batches(spec, batches_taken(spec, training)))
    from footprint.measure.recorded_trainer import measure_trainer  # Transformers takes two seconds

    warnings.simplefilter("ignore")  # what libraries remark on is not for whoever asked for bytes
    try:
        with nullcontext() if spec.card is None else real_values():
            return measure_trainer(spec, training, batches)
    except (FootprintError, TraceError):
        raise
    except Exception as error:  # noqa: BLE001, for whatever a config makes a model stumble over is its writer's to mend
        raise FootprintError(f"{spec.model.name}: Transformers does not train it ({in_one_line(error)})") from None
