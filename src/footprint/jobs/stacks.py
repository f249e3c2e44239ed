"""One run, whichever stack it has: in this process, or in one for each of its GPUs."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from unittest.mock import patch

import torch

from footprint.errors import FootprintError, in_one_line
from footprint.jobs.ranks import together
from footprint.measure.measurement import Batches, Measurement, batches_needed, measure, random_batches
from footprint.measure.trace.reader import TraceError
from footprint.rehearsal.launch import real_values
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.train.sharding import share_of


def batches_taken(spec: RunSpec, training: TrainingSpec) -> int:
    """Batches of one measurement: under Transformers a step may take several."""
    return batches_needed(training) * (1 if spec.recipe is None else spec.recipe.accumulation)


def carry_out(spec: RunSpec, training: TrainingSpec, batches: Callable[[], Batches] | None = None) -> Measurement:
    """Measure or rehearse a run, on the `batches_taken` batches that a call of `batches` gives, or on random tokens.

    `batches` may be called in another process. Raises FootprintError for whatever a config or a recipe makes a model
    stumble over.
    """
    if batches is None and spec.stack == "minigpt":
        batches = partial(random_batches, spec, batches_taken(spec, training))
    if spec.gpus > 1:
        return together(partial(_share, spec, training, batches), spec)
    return _carry_out_here(spec, training, batches and batches())


def _share(spec: RunSpec, training: TrainingSpec, batches: Callable[[], Batches] | None, rank: int) -> Measurement:
    """What the process of a rank does. Of whole batches a Trainer takes its share itself."""
    own = batches and batches()
    if spec.stack == "minigpt":
        own = list(share_of(rank, spec, own))
    return _carry_out_here(spec, training, own)


def _carry_out_here(spec: RunSpec, training: TrainingSpec, batches: Batches | None) -> Measurement:
    """In this process."""
    with values_that_decide(spec):
        return measure(spec, training, batches) if spec.stack == "minigpt" else _train(spec, training, batches)


def values_that_decide(spec: RunSpec) -> AbstractContextManager:
    """Small integers are carried out in a rehearsal where something is decided by them: Transformers looks at positions
    before it makes a mask, DDP asks every rank how many parameters it has and in which buckets they are.
    """
    if spec.card is None:
        return nullcontext()
    if spec.stack == "transformers":
        return real_values()
    return _values_in_ddp() if spec.sharding == "ddp" else nullcontext()


@contextmanager
def _values_in_ddp() -> Iterator[None]:
    """Only where DDP reads them: what carries them out has a hand on every tensor, and autograd then adds a gradient to
    another in a new one.
    """

    def carried_out(method: Callable) -> Callable:
        @wraps(method)
        def with_values(*args: object, **kwargs: object) -> object:
            with real_values():
                return method(*args, **kwargs)

        return with_values

    parallel = torch.nn.parallel.DistributedDataParallel
    asking = {name: carried_out(getattr(parallel, name)) for name in ("__init__", "_pre_forward")}
    with patch.multiple(parallel, **asking):
        yield


def _train(spec: RunSpec, training: TrainingSpec, batches: Batches | None) -> Measurement:
    """By Transformers' Trainer."""
    from footprint.measure.recorded_trainer import measure_trainer  # Transformers takes two seconds

    warnings.simplefilter("ignore")  # what libraries remark on is not for whoever asked for bytes
    try:
        return measure_trainer(spec, training, batches)
    except (FootprintError, TraceError):
        raise
    except Exception as error:  # noqa: BLE001, for whatever a config makes a model stumble over is its writer's to mend
        raise FootprintError(f"{spec.model.name}: Transformers does not train it ({in_one_line(error)})") from None
