"""What equal blocks do is run once and repeated: no event is another than if every block had been run."""

import random
from collections.abc import Iterator

import pytest
from test_formula import runs

from footprint.predict.kernels.choice import kernels_for
from footprint.predict.phases import structure_of
from footprint.predict.simulation import every_block, recipe_of, tape
from footprint.predict.tape import Tape
from footprint.predict.unroll import Few, few
from footprint.spec.training import TrainingSpec


def events(whole: Tape) -> Iterator[tuple]:
    """Pass, tensor and sort of every event; tensors are numbered as they are met."""
    sorts, met = whole.sorts, {}
    for (pass_, _), number in zip(whole.pieces, whole.numbers, strict=True):
        tensor = abs(number)
        met.setdefault(tensor, len(met))
        yield pass_, number > 0, met[tensor], sorts[whole.sort_of[tensor - 1]]


@pytest.mark.parametrize("half", ["bf16", "fp16"])
@pytest.mark.parametrize("card", ["t4", "a100-80gb", "h100-80gb"])
def test_every_event_is_that_of_a_run_of_every_block(half, card):
    training = TrainingSpec(half=half)
    kernels = kernels_for("cuda", training, card)
    generator, deep = random.Random(half + card), 0
    for spec in runs(generator.randrange(2**20), 60, "cuda"):
        structure, recipe = structure_of(spec, kernels, unrolled=True), recipe_of(spec, training)
        assert list(events(tape(structure, recipe, kernels))) == list(events(every_block(structure, recipe, kernels)))
        deep += max(few(structure.segments or (1,) * structure.layers).times) > 1
    assert deep > 5


def test_two_segments_of_each_end_and_one_for_all_between_are_run():
    assert few((1,) * 80) == Few(lengths=(1,) * 5, times=(1, 1, 76, 1, 1))
    assert few((9,) * 8 + (8,)) == Few(lengths=(9,) * 5 + (8,), times=(1, 1, 4, 1, 1, 1))
    assert few((3, 3, 2)) == Few(lengths=(3, 3, 2), times=(1, 1, 1))
