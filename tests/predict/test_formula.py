"""Formulas are arithmetic put off; what was predicted for thousands of runs at once is what each would get alone."""

import random
from dataclasses import replace

import numpy as np
import pytest

from footprint.predict.arithmetic import call_each, maximum, minimum, where
from footprint.predict.formula import Evaluation, Formula, call, dimension
from footprint.predict.kernels.choice import kernels_for
from footprint.predict.many.blocks import blocks_of_each
from footprint.predict.many.evaluation import Evaluations
from footprint.predict.many.peaks import phases_of_many
from footprint.predict.onednn_blocks import blocks
from footprint.predict.phases import structure_of, unrolled
from footprint.predict.prediction import least_peaks, predict, predict_many
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.model import BLOCKS, TARGETS, ModelSpec
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import DEVICES, QUANTIZATIONS, REGIMES, RunSpec
from footprint.spec.training import TrainingSpec

TINY = ModelSpec(name="tiny", layers=2, width=64, heads=2, vocab=96, context=64)


def runs(seed: int, count: int, device: str = "cpu") -> list[RunSpec]:
    """Random small runs of every kind."""
    generator = random.Random(seed)

    def one() -> RunSpec:
        model = replace(
            TINY,
            layers=generator.choice((1, 2, 3, 4, 5, 7, 8, 14, 23)),
            block=generator.choice(BLOCKS),
            heads=generator.choice((1, 2, 4)),
            kv_heads=None,
            head_width=None,
            mlp_width=generator.randint(64, 300),
            tied_head=generator.random() < 0.3,
        )
        axes = {"targets": TARGETS, "checkpointing": CHECKPOINTING, "precision": tuple(PRECISIONS)}
        axes |= {"regime": REGIMES, "quantization": QUANTIZATIONS, "optimizer": ("adamw", "adamw-fused")}
        chosen = {axis: generator.choice(values) for axis, values in axes.items()}
        sizes = {"rank": generator.randint(1, 64), "batch": generator.randint(1, 8), "seq": generator.randint(1, 64)}
        return RunSpec(model=model, device=device, **chosen, **sizes)

    return [one() for _ in range(count)]


# --- formulas -------------------------------------------------------------------------------------------------------


def evaluated(formula: object, **dimensions: list[int]) -> list[int]:
    """The values for each run, which arrays have in common with the ints of each run alone."""
    together = Evaluations({name: np.array(values) for name, values in dimensions.items()}).of(formula).tolist()
    runs = [dict(zip(dimensions, sizes, strict=True)) for sizes in zip(*dimensions.values(), strict=True)]
    assert together == [Evaluation(run).of(formula) for run in runs]
    return together


def test_arithmetic_is_put_off_until_the_dimensions_are_known():
    a, b = dimension("a"), dimension("b")
    formula = where(a >= 2, -(-a // 2) * b, minimum(a, b) % 3 + 1)
    assert evaluated(formula, a=[1, 2, 5], b=[9, 9, 2]) == [2, 9, 6]
    assert evaluated((5 - a) * (b > 2) + maximum(a, b, 4), a=[1, 2, 5], b=[9, 1, 2]) == [13, 4, 5]
    assert Evaluation({"a": 1}).of(7) == 7


def test_equal_formulas_are_one_object():
    a, b = dimension("a"), dimension("b")
    assert a * b * 2 is dimension("a") * dimension("b") * 2
    assert a * b is not a + b


def test_a_size_cannot_decide_which_tensors_exist():
    with pytest.raises(TypeError, match="make it part of the structure"):
        max(dimension("a"), 3)


def test_a_call_with_numbers_alone_is_made_at_once():
    assert call(divmod, 7, 2) == (3, 1)
    assert isinstance(call(divmod, dimension("a"), 2), Formula)


def test_what_is_written_for_ints_is_called_for_each_run():
    assert call_each(pow, 2, 5) == 32
    assert evaluated(call_each(pow, dimension("a"), 3), a=[1, 2, 5]) == [1, 8, 125]


def test_expensive_calls_are_made_once_and_only_where_they_are_wanted():
    made = []

    def expensive(size, factor):
        made.append(size.tolist())
        return size * factor

    a, b = call(expensive, dimension("a"), 10), call(expensive, dimension("b"), 10)
    evaluation = Evaluations({"a": np.array([1, 2, 3]), "b": np.array([4, 5, 6])})
    evaluation.prepare({a: np.array([2]), b: np.array([0, 1])})
    assert made == [[3, 4, 5]]
    assert (evaluation.of(a).tolist(), evaluation.of(b).tolist()) == ([0, 0, 30], [40, 50, 0])


# --- many runs at once ----------------------------------------------------------------------------------------------


def test_a_thousand_runs_get_of_numpy_what_each_gets_alone_of_ints():
    """On a card too: what its tensors take, which the search for what fits begins with."""
    many, on_card = runs(1, 600), runs(1, 400, "cuda")
    assert predict_many(many) == [predict(spec) for spec in many]
    assert least_peaks(on_card) == [least_peaks([spec])[0] for spec in on_card]


@pytest.mark.parametrize("device", DEVICES)
def test_folding_equal_blocks_changes_no_byte(device):
    """Peaks from three explicit blocks per segment are those of a step with every block of its own."""
    many, kernels = runs(2, 60, device), kernels_for(device, TrainingSpec())
    folded = phases_of_many(many, kernels)
    for index, spec in enumerate(many):
        forward = backward = gradients = live = 0
        for phase, collected, activations in unrolled(spec, kernels):
            live = collected + activations
            if phase == "forward":
                forward = max(forward, live)
            elif live > backward:
                backward, gradients = live, collected
        expected = (folded.forward, folded.backward, folded.backward_gradients, folded.after_backward)
        assert (forward, backward, gradients, live) == tuple(column[index] for column in expected)


def test_few_structures_stand_for_any_number_of_layers():
    specs = [
        RunSpec(model=replace(TINY, layers=layers), regime="full", checkpointing=checkpointing, seq=8)
        for layers in range(4, 200)
        for checkpointing in CHECKPOINTING
    ]
    kernels = kernels_for("cpu", TrainingSpec())
    assert len({structure_of(spec, kernels) for spec in specs}) == len(CHECKPOINTING)


# --- oneDNN's blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 32])
def test_blocks_of_many_products_are_those_of_each(threads):
    generator = np.random.default_rng(threads)
    sizes = (2 ** generator.uniform(0, 16, (3, 300))).astype(np.int64)
    sizes[:, :60] = 2 ** generator.integers(0, 13, (3, 60))  # strides of powers of two are treated apart
    m, k, n = sizes
    a_transposed = (generator.random(300) < 0.5) | (m == 1)
    packs_a = a_transposed & (m > 1)
    found = blocks_of_each(m, k, n, a_transposed, packs_a, threads)
    for index, shape in enumerate(sizes.T.tolist()):
        expected = blocks(*shape, bool(a_transposed[index]), bool(packs_a[index]), threads)
        assert tuple(column[index] for column in found) == expected
