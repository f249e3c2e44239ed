"""Runs under Transformers' Trainer, rehearsed in a process that has the card."""

import warnings

from footprint.measure.recorded_trainer import measure_trainer
from footprint.rehearsal.inside.real_values import RealValues
from footprint.spec.training import TrainingSpec
from footprint.spec.transformers_run import TransformersRun

TRAINING = TrainingSpec(measured_steps=1)
"""A warm-up step and a measured one: bytes have no noise."""


def rehearse_trainer(run: TransformersRun) -> dict[str, object]:
    """The row of a run, rehearsed in this process.

    Transformers decides by small integers, such as positions, whether it makes a mask: they are carried out.
    """
    warnings.simplefilter("ignore")  # what libraries remark on is not for whoever asked for bytes
    with RealValues():
        return measure_trainer(run, TRAINING).row
