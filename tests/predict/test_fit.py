"""What fits: every answer is a run that fits, nothing cheaper does, and the order is the one that is promised."""

from dataclasses import replace

import pytest

from footprint.predict.capacity import FITS, TOO_LARGE, Capacity, of_card, of_size
from footprint.predict.fit import COSTS, STEPS, Candidate, Change, cheapest_change, kept
from footprint.predict.prediction import predict, predict_many
from footprint.predict.search import search, sequences
from footprint.spec.cards import find
from footprint.spec.model import ModelSpec
from footprint.spec.presets import PRESETS
from footprint.spec.run import OPTIMIZERS, RunSpec
from footprint.spec.training import TrainingSpec
from footprint.spec.units import parse_bytes

TRAINING = TrainingSpec()
CARD = of_size(parse_bytes("24GiB"))
LLAMA = PRESETS["llama-7b"]
SMALL = ModelSpec(name="small", layers=3, width=64, heads=4, vocab=96, context=300)


def run(regime: str = "full", *, model: ModelSpec = LLAMA, **axes) -> RunSpec:
    return RunSpec(model=model, regime=regime, device="cuda", **{"batch": 2, "seq": 1024} | axes)


def peak(spec: RunSpec) -> int:
    return predict(spec, TRAINING)["peak_bytes"]


def holding(size: int) -> Capacity:
    """Memory of a CPU for exactly `size` bytes of tensors."""
    return Capacity(size)


def fits(spec: RunSpec, capacity: Capacity = CARD) -> bool:
    return capacity.holds(spec, TRAINING)


def cheapest(spec: RunSpec, capacity: Capacity) -> tuple[str, RunSpec]:
    """The axis that changes and the run that then fits."""
    change = cheapest_change(spec, capacity, TRAINING)
    return change.axis, change.changed.spec


@pytest.fixture(scope="module")
def settings():
    return search(LLAMA, {}, CARD, TRAINING)


# --- the verdict ----------------------------------------------------------------------------------------------------


def test_a_run_fits_a_card_that_has_what_its_allocator_reserves_beside_the_context():
    spec = run("lora", model=SMALL, seq=300)
    row = predict(spec, TRAINING)
    exact, smaller = (of_size(row["process_peak_bytes"] - less) for less in (0, 2**21))
    assert exact.verdict(row) == FITS
    assert exact.room == row["process_peak_bytes"] - exact.card.context
    assert smaller.verdict(row) == TOO_LARGE


def test_a_run_fits_where_the_allocator_has_to_empty_its_cache():
    """Some room below what it would reserve a run still gets through; below what its tensors take it never does."""
    spec = run("full", model=PRESETS["minigpt-85m"], seq=512, batch=16)
    row = predict(spec, TRAINING)
    context = of_size(0).card.context
    rooms = range(row["reserved_peak_bytes"], row["requested_peak_bytes"] - 2**21, -(2**21))
    held = [fits(spec, of_size(room + context)) for room in rooms]
    assert held[0]
    assert not held[-1]
    assert sum(held) > 1
    least = of_size(rooms[sum(held) - 1] + context)
    tightest = Candidate(spec, least, TRAINING)
    assert tightest.verdict == FITS
    assert tightest.empties_cache
    assert tightest.row["reserved_peak_bytes"] <= least.room < row["reserved_peak_bytes"]
    # What the card shows is never less than what was reserved at some time, though less is in the end.
    assert tightest.row["process_peak_bytes"] >= tightest.row["reserved_peak_bytes"] + context
    assert 0 <= tightest.headroom == least.room + context - tightest.row["process_peak_bytes"]
    assert not Candidate(spec, of_size(2**40), TRAINING).empties_cache


def test_another_card_of_the_same_size_may_hold_another_run():
    """A T4 has no flash attention for bf16: the scores of every head are there at once."""
    spec = replace(run("lora", model=PRESETS["tinyllama-1.1b"], batch=1, seq=2048))
    newer = of_card(replace(find("a10g"), total=find("t4").total))
    assert fits(replace(spec, card="a10g"), newer)
    assert not fits(replace(spec, card="t4"), of_card(find("t4")))


def test_in_memory_that_is_no_card_nothing_but_tensors_counts():
    spec = replace(run("lora", model=SMALL, seq=300), device="cpu")
    row = predict(spec, TRAINING)
    assert holding(row["peak_bytes"]).verdict(row) == FITS
    assert holding(row["peak_bytes"] - 1).verdict(row) == TOO_LARGE


# --- the cheapest single change -------------------------------------------------------------------------------------


def test_the_change_makes_the_run_fit_and_touches_one_axis():
    spec = run("lora", seq=4096)
    axis, changed = cheapest(spec, CARD)
    assert not fits(spec)
    assert fits(changed)
    assert replace(changed, **{axis: getattr(spec, axis)}) == spec


def test_what_costs_nothing_is_given_up_before_what_costs_time():
    spec = replace(run("full", model=PRESETS["minigpt-85m"], precision="fp32", batch=1, seq=16), device="cpu")
    memory = peak(replace(spec, optimizer="adamw-fused"))
    assert memory < peak(spec)
    axis, changed = cheapest(spec, holding(memory))
    assert (axis, changed.optimizer) == ("optimizer", "adamw-fused")


def test_time_is_given_up_before_batch_and_batch_before_precision():
    spec = replace(run("lora", batch=4, seq=2048), device="cpu")
    checkpointed, halved = (peak(replace(spec, **axis)) for axis in ({"checkpointing": "block"}, {"batch": 1}))
    assert checkpointed < halved
    assert cheapest(spec, holding(checkpointed))[0] == "checkpointing"
    already = replace(spec, checkpointing="block", batch=8)
    assert cheapest(already, holding(peak(replace(already, batch=4))))[0] == "batch"


@pytest.mark.parametrize(
    ("axis", "start", "largest"), [("batch", 16, 15), ("batch", 16, 9), ("rank", 32, 27), ("seq", 300, 211)]
)
def test_of_a_number_the_largest_that_fits_is_proposed(axis, start, largest):
    """Not the first half, quarter or eighth of it that fits."""
    narrow = {"regime": "lora", "targets": "qv", "precision": "bf16", "optimizer": "adamw-fused", "batch": 1, "seq": 16}
    narrow |= {"checkpointing": "sqrt", "quantization": "none"}
    spec = replace(run(model=SMALL, **narrow | {axis: start}), device="cpu")
    found = cheapest_change(spec, holding(peak(replace(spec, **{axis: largest}))), TRAINING)
    assert (found.axis, getattr(found.changed.spec, axis)) == (axis, largest)
    assert peak(replace(spec, **{axis: largest + 1})) > peak(found.changed.spec)


def test_fewer_targets_are_a_subset_of_those_there_are():
    mlp = replace(run("lora", targets="gate_proj+up_proj+down_proj"), checkpointing="sqrt", precision="bf16")
    tried = cheapest_change(mlp, holding(1), TRAINING).in_vain
    assert "targets" not in dict(tried)
    most = replace(mlp, targets="q_proj+k_proj+v_proj")
    assert ("targets", "qv") in cheapest_change(most, holding(1), TRAINING).in_vain


def test_another_regime_comes_with_the_default_adapters():
    axis, changed = cheapest(run("full", batch=1, seq=128), CARD)
    assert (axis, changed.regime) == ("regime", "lora")
    assert (changed.rank, changed.targets) == (8, "all-linear")


def test_where_no_single_change_is_enough_there_is_none():
    hopeless = run("full", model=PRESETS["llama-70b"], seq=4096)
    found = cheapest_change(hopeless, of_size(parse_bytes("1GiB")), TRAINING)
    assert (found.axis, found.changed) == (None, None)
    assert {axis for axis, _ in found.in_vain} == {"optimizer", "checkpointing", "batch", "precision", "regime", "seq"}


def test_no_cheaper_change_would_have_done():
    spec = replace(run("lora", seq=4096, checkpointing="sqrt", batch=1), device="cpu")
    memory = holding(peak(replace(spec, regime="qlora", quantization="nf4")))
    found: Change = cheapest_change(spec, memory, TRAINING)
    assert found.axis in ("precision", "regime")
    cheaper = [replace(spec, **{axis: value}) for axis, value in found.in_vain]
    assert {axis for axis, _ in found.in_vain} >= {"optimizer", "targets", "rank"}
    assert all(row["peak_bytes"] > memory.room for row in predict_many(cheaper, TRAINING))


def test_on_the_cpu_no_optimizer_of_the_gpu_is_suggested():
    spec = replace(run("full", model=SMALL, seq=64, precision="fp32"), device="cpu")
    for memory in range(peak(spec) - 1, 0, -peak(spec) // 50):
        found = cheapest_change(spec, holding(memory), TRAINING)
        assert found.changed is None or found.changed.spec.optimizer in ("adamw", "adamw-fused")


# --- the search -----------------------------------------------------------------------------------------------------


def test_what_fits_fits_and_one_more_sequence_would_not(settings):
    for setting in settings:
        for candidate in (setting.longest, setting.most_tokens):
            assert fits(candidate.spec) is (setting.verdict == FITS)
            if setting.verdict == FITS:
                assert not fits(replace(candidate.spec, batch=candidate.spec.batch + 1))


def test_the_longest_sequence_is_the_longest_that_fits_alone(settings):
    for setting in settings:
        longer = [seq for seq in sequences(LLAMA) if seq > setting.longest.spec.seq]
        if setting.verdict == FITS:
            assert not any(fits(replace(setting.longest.spec, batch=1, seq=seq)) for seq in longer)


def test_no_length_holds_more_tokens_than_the_one_shown(settings):
    for setting in (setting for setting in settings if setting.verdict == FITS):
        most = setting.most_tokens.spec
        for seq in sequences(LLAMA):
            fuller = most.batch * most.seq // seq + 1
            assert not fits(replace(most, seq=seq, batch=fuller))


def test_settings_are_ranked_by_what_they_give_up(settings):
    fitting = [(s.longest.spec.regime, s.longest.spec.checkpointing) for s in settings if s.verdict == FITS]
    regimes, modes = ("full", "lora", "qlora"), ("none", "block", "sqrt")
    assert fitting == [(regime, mode) for regime in regimes for mode in modes if (regime, mode) in fitting]
    order = [(FITS, TOO_LARGE).index(setting.verdict) for setting in settings]
    assert order == sorted(order)


def test_a_loser_is_shown_at_its_smallest_with_its_largest_bucket(settings):
    losers = [setting.longest for setting in settings if setting.verdict != FITS]
    assert {candidate.spec.regime for candidate in losers} == {"full"}
    for candidate in losers:
        assert (candidate.spec.batch, candidate.spec.seq) == (1, 128)
        bucket, size = candidate.largest_bucket
        assert size == max(
            candidate.row[f"{name}_bytes"] for name in ("weights", "gradients", "optimizer", "activations")
        )
        assert candidate.row[f"{bucket}_bytes"] == size
        assert candidate.headroom == CARD.memory - candidate.row["process_peak_bytes"] < 0


def test_axes_that_do_not_apply_make_no_settings_of_their_own():
    axes = {
        "regime": ("full", "lora"),
        "checkpointing": ("none",),
        "rank": (4, 8),
        "quantization": ("nf4", "nf4-double"),
    }
    found = [setting.longest.spec for setting in search(SMALL, axes, CARD, TRAINING)]
    assert [(spec.regime, spec.rank) for spec in found] == [("full", 0), ("lora", 8), ("lora", 4)]


def test_batches_end_where_a_run_may_not_be_larger():
    """A card that holds everything: the batch stops at what a spec allows, without an error."""
    axes = {"regime": ("lora",), "checkpointing": ("none",)}
    (setting,) = search(SMALL, axes, of_size(2**60), TRAINING)
    assert (setting.longest.spec.seq, setting.longest.spec.batch) == (300, 65536)


def test_a_batch_that_is_given_is_kept_and_only_the_sequence_searched():
    found = search(LLAMA, {"regime": ("lora", "full"), "checkpointing": ("block",), "batch": (4, 2)}, CARD, TRAINING)
    lora, full = found
    assert (lora.verdict, lora.longest.spec.batch) == (
        FITS,
        max(b for b in (2, 4) if fits(replace(lora.longest.spec, batch=b))),
    )
    longer = replace(lora.longest.spec, seq=2 * lora.longest.spec.seq, batch=2)
    assert longer.seq > LLAMA.context or not fits(longer)
    assert (full.verdict, full.longest.spec.batch) == (TOO_LARGE, 2)


def test_sequences_are_powers_of_two_and_the_context():
    assert sequences(LLAMA) == (128, 256, 512, 1024, 2048, 4096)
    assert sequences(SMALL) == (128, 256, 300)
    assert sequences(replace(SMALL, context=64)) == (64,)


# --- the order ------------------------------------------------------------------------------------------------------


def test_every_axis_but_the_model_the_gpus_and_whose_code_trains_has_its_cost():
    assert set(COSTS) == set(run().axes()) - {"model", "stack", "gpus", "sharding"}


def test_every_optimizer_has_its_place():
    assert {value for axis, values in STEPS if axis == "optimizer" for value in values} == set(OPTIMIZERS) - {"adamw"}
    assert sorted(OPTIMIZERS, key=lambda name: kept("optimizer", name))[:2] == ["adamw", "adamw-fused"]
