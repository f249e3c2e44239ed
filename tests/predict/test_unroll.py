"""What equal blocks do is run once and repeated: no event is another than if every block had been run."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from test_formula import runs
from tiny import GPT, run

from footprint.predict.events import PHASE_OF
from footprint.predict.kernels.choice import kernels_for
from footprint.predict.kernels.device import Kernels
from footprint.predict.phases import structure_of
from footprint.predict.simulation import recipe_of, shown_of, tape, with_few
from footprint.predict.tape import Tape
from footprint.predict.unroll import Few, Unrolled, few
from footprint.spec.run import SHARDINGS, RunSpec
from footprint.spec.training import TrainingSpec


def phase_of(pass_: str) -> str:
    return PHASE_OF.get(pass_, "backward")


def on(whole: Tape) -> Iterator[tuple]:
    """Phase, tensor and sort of every event; tensors are numbered as they are met."""
    sorts, met = whole.sorts, {}
    for (pass_, _), number in zip(whole.pieces, whole.numbers, strict=True):
        tensor = abs(number)
        yield phase_of(pass_), number > 0, met.setdefault(tensor, len(met)), sorts[whole.sort_of[tensor - 1]]


def unrolled(whole: Tape, shown: Few) -> Iterator[tuple]:
    """The same of a run of which a few blocks are shown."""
    sorts, met = whole.sorts, {}
    for phase, one in Unrolled(whole, shown, phase_of).rounds():
        for place in one.places:
            for tensor, sort in zip(one.body.tensors, one.body.sorts, strict=True):
                number = met.setdefault(place + tensor, len(met))
                yield phase, sort >= 0, number, sorts[sort if sort >= 0 else ~sort]


def shown_alike(spec: RunSpec, training: TrainingSpec, kernels: Kernels) -> Few:
    """The blocks that are run for all, once every event has been found alike."""
    structure, recipe = structure_of(spec, kernels, unrolled=True), recipe_of(spec, training)
    shown = shown_of(structure)
    of_few = tape(with_few(structure, shown), recipe, kernels)
    assert list(unrolled(of_few, shown)) == list(on(tape(structure, recipe, kernels)))
    return shown


@pytest.mark.parametrize("half", ["bf16", "fp16"])
@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("card", ["t4", "a100-80gb", "h100-80gb"])
def test_every_event_is_that_of_a_run_of_every_block(half, sharding, card):
    training = TrainingSpec(half=half)
    kernels = kernels_for("cuda", training, card)
    generator, deep = random.Random(half + sharding + card), 0
    for spec in runs(generator.randrange(2**20), 60 if sharding == "none" else 20, "cuda"):
        gpus = 1 if sharding == "none" else generator.choice([2, 3, 8])
        shown = shown_alike(replace(spec, batch=spec.batch * gpus, gpus=gpus, sharding=sharding), training, kernels)
        deep += max(*shown.times, *shown.blocks) > 1
    assert deep > 2


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("regime", ["full", "lora"])
def test_so_it_is_where_a_segment_of_many_blocks_stands_for_many(sharding, regime):
    training = TrainingSpec()
    gpus = 1 if sharding == "none" else 2
    model = replace(GPT, layers=64)
    spec = run(regime, model=model, device="cuda", checkpointing="sqrt", batch=gpus, gpus=gpus, sharding=sharding)
    shown = shown_alike(spec, training, kernels_for("cuda", training))
    assert min(max(shown.times), max(shown.blocks)) > 1


def test_the_first_of_each_kind_the_last_and_one_for_all_between_are_run():
    assert few((80,)) == Few(lengths=(3,), times=(1,), blocks=(1, 78, 1))
    assert few((1,) * 80) == Few(lengths=(1, 1, 1), times=(1, 78, 1), blocks=(1, 1, 1))
    assert few((9,) * 8 + (8,)) == Few(lengths=(3, 3, 3), times=(1, 7, 1), blocks=(1, 7, 1) * 2 + (1, 6, 1))
    assert few((3, 3, 2)) == Few(lengths=(3, 3, 2), times=(1, 1, 1), blocks=(1,) * 8)
    assert few((9, 9, 8, 8)) == Few((3, 3, 3, 3), (1, 1, 1, 1), (1, 7, 1, 1, 7, 1, 1, 6, 1, 1, 6, 1))
    assert few((1,)) == Few((1,), (1,), (1,))
    assert few((80,), ends=2) == Few((5,), (1,), (1, 1, 76, 1, 1))
    assert few((1,) * 80, ends=2) == Few((1,) * 5, (1, 1, 76, 1, 1), (1,) * 5)
    assert few((1,) * 3, ends=2) == Few((1,) * 3, (1,) * 3, (1,) * 3)
