"""What fits: every answer is a run that fits, nothing cheaper does, and the order is the one that is promised."""

from dataclasses import replace

import pytest

from footprint.fit import COSTS, STEPS, cheapest_change, kept, search, sequences
from footprint.predict import predict, predict_many
from footprint.spec import OPTIMIZERS, PRESETS, ModelSpec, RunSpec, TrainingSpec
from footprint.units import parse_bytes

TRAINING = TrainingSpec()
CARD = parse_bytes("24GiB")
LLAMA = PRESETS["llama-7b"]
SMALL = ModelSpec(name="small", layers=3, width=64, heads=4, vocab=96, context=300)


def run(regime: str = "full", *, model: ModelSpec = LLAMA, **axes) -> RunSpec:
    return RunSpec(model=model, regime=regime, device="cuda", **{"batch": 2, "seq": 1024} | axes)


def peak(spec: RunSpec) -> int:
    return predict(spec, TRAINING)["peak_bytes"]


@pytest.fixture(scope="module")
def settings():
    return search(LLAMA, {}, CARD, "cuda", TRAINING)


# --- the cheapest single change -------------------------------------------------------------------------------------


def test_the_change_makes_the_run_fit_and_touches_one_axis():
    spec = run("lora", seq=4096)
    axis, changed = cheapest_change(spec, CARD, TRAINING)
    assert peak(spec) > CARD >= peak(changed.spec) == changed.row["peak_bytes"]
    assert changed.headroom == CARD - peak(changed.spec)
    assert replace(changed.spec, **{axis: getattr(spec, axis)}) == spec


def test_what_costs_nothing_is_given_up_before_what_costs_time():
    spec = run("full", model=PRESETS["minigpt-85m"], precision="fp32", batch=1, seq=16)
    memory = peak(replace(spec, optimizer="adamw-fused"))
    assert memory < peak(spec)
    axis, changed = cheapest_change(spec, memory, TRAINING)
    assert (axis, changed.spec.optimizer) == ("optimizer", "adamw-fused")


def test_time_is_given_up_before_batch_and_batch_before_precision():
    spec = run("lora", batch=4, seq=2048)
    checkpointed, halved = (peak(replace(spec, **axis)) for axis in ({"checkpointing": "block"}, {"batch": 1}))
    assert checkpointed < halved
    assert cheapest_change(spec, checkpointed, TRAINING)[0] == "checkpointing"
    already = replace(spec, checkpointing="block", batch=8)
    assert cheapest_change(already, peak(replace(already, batch=4)), TRAINING)[0] == "batch"


def test_another_regime_comes_with_the_default_adapters():
    axis, changed = cheapest_change(run("full", batch=1, seq=128), CARD, TRAINING)
    assert (axis, changed.spec.regime) == ("regime", "lora")
    assert (changed.spec.rank, changed.spec.targets) == (8, "all-linear")


def test_where_no_single_change_is_enough_there_is_none():
    assert cheapest_change(run("full", model=PRESETS["llama-70b"], seq=4096), parse_bytes("1GiB"), TRAINING) is None


def test_no_cheaper_change_would_have_done():
    spec = run("lora", seq=4096, checkpointing="sqrt", batch=1)
    memory = peak(replace(spec, regime="qlora", quantization="nf4"))
    axis, _ = cheapest_change(spec, memory, TRAINING)
    cheaper = [replace(spec, optimizer="adamw-fused"), replace(spec, targets="qv"), replace(spec, rank=1)]
    assert axis in ("precision", "regime")
    assert all(row["peak_bytes"] > memory for row in predict_many(cheaper, TRAINING))


def test_on_the_cpu_no_optimizer_of_the_gpu_is_suggested():
    spec = replace(run("full", model=SMALL, seq=64, precision="fp32"), device="cpu")
    for memory in range(peak(spec) - 1, 0, -peak(spec) // 50):
        found = cheapest_change(spec, memory, TRAINING)
        assert found is None or found[1].spec.optimizer in ("adamw", "adamw-fused")


# --- the search -----------------------------------------------------------------------------------------------------


def test_what_fits_fits_and_one_more_sequence_would_not(settings):
    for setting in settings:
        for candidate in (setting.longest, setting.most_tokens):
            assert (peak(candidate.spec) <= CARD) is setting.fits
            if setting.fits:
                assert peak(replace(candidate.spec, batch=candidate.spec.batch + 1)) > CARD


def test_the_longest_sequence_is_the_longest_that_fits_alone(settings):
    for setting in settings:
        longer = [seq for seq in sequences(LLAMA) if seq > setting.longest.spec.seq]
        if setting.fits:
            assert all(peak(replace(setting.longest.spec, batch=1, seq=seq)) > CARD for seq in longer)


def test_no_length_holds_more_tokens_than_the_one_shown(settings):
    for setting in (setting for setting in settings if setting.fits):
        most = setting.most_tokens.spec
        for seq in sequences(LLAMA):
            fuller = most.batch * most.seq // seq + 1
            assert peak(replace(most, seq=seq, batch=fuller)) > CARD


def test_settings_are_ranked_by_what_they_give_up(settings):
    fitting = [(s.longest.spec.regime, s.longest.spec.checkpointing) for s in settings if s.fits]
    regimes, modes = ("full", "lora", "qlora"), ("none", "block", "sqrt")
    assert fitting == [(regime, mode) for regime in regimes for mode in modes if (regime, mode) in fitting]
    assert [s.fits for s in settings] == sorted((s.fits for s in settings), reverse=True)


def test_a_loser_is_shown_at_its_smallest_with_its_largest_bucket(settings):
    losers = [setting.longest for setting in settings if not setting.fits]
    assert {candidate.spec.regime for candidate in losers} == {"full"}
    for candidate in losers:
        assert (candidate.spec.batch, candidate.spec.seq) == (1, 128)
        bucket, size = candidate.largest_bucket
        assert size == max(
            candidate.row[f"{name}_bytes"] for name in ("weights", "gradients", "optimizer", "activations")
        )
        assert candidate.row[f"{bucket}_bytes"] == size
        assert candidate.headroom == CARD - candidate.row["peak_bytes"] < 0


def test_axes_that_do_not_apply_make_no_settings_of_their_own():
    axes = {
        "regime": ("full", "lora"),
        "checkpointing": ("none",),
        "rank": (4, 8),
        "quantization": ("nf4", "nf4-double"),
    }
    found = [setting.longest.spec for setting in search(SMALL, axes, CARD, "cuda", TRAINING)]
    assert [(spec.regime, spec.rank) for spec in found] == [("full", 0), ("lora", 8), ("lora", 4)]


def test_batches_end_where_a_run_may_not_be_larger():
    """A card that holds everything: the batch stops at what a spec allows, without an error."""
    axes = {"regime": ("lora",), "checkpointing": ("none",)}
    (setting,) = search(SMALL, axes, 2**60, "cuda", TRAINING)
    assert (setting.longest.spec.seq, setting.longest.spec.batch) == (300, 65536)


def test_sequences_are_powers_of_two_and_the_context():
    assert sequences(LLAMA) == (128, 256, 512, 1024, 2048, 4096)
    assert sequences(SMALL) == (128, 256, 300)
    assert sequences(replace(SMALL, context=64)) == (64,)


# --- the order ------------------------------------------------------------------------------------------------------


def test_every_axis_but_the_model_has_its_cost():
    assert set(COSTS) == set(run().axes()) - {"model"}


def test_every_optimizer_has_its_place():
    assert {value for axis, values in STEPS if axis == "optimizer" for value in values} == set(OPTIMIZERS) - {"adamw"}
    assert sorted(OPTIMIZERS, key=lambda name: kept("optimizer", name))[:2] == ["adamw", "adamw-fused"]
