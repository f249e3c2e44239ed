"""The textbook on trial: verdicts follow from numbers, and the known mistakes of the seed are found."""

import pytest
from synthetic import ABLATION, grid, write_results

from footprint.predict.textbook import TRAINED
from footprint.report.reading import cards, selection
from footprint.report.tables import ablation
from footprint.report.textbook import cells as textbook_cells
from footprint.report.textbook import claims as textbook_claims
from footprint.report.textbook import drills, verdicts
from footprint.spec.presets import PRESETS
from footprint.spec.units import format_bytes, parse_bytes


@pytest.fixture(scope="module", name="runs")
def _runs(tmp_path_factory):
    return selection.load(write_results(tmp_path_factory.mktemp("ablation"), ABLATION))


@pytest.fixture(scope="module", name="claims")
def _claims(runs) -> dict[str, verdicts.Claim]:
    return {claim.quote: claim for claim in textbook_claims.claims(runs)}


@pytest.mark.parametrize(
    ("claimed", "found", "verdict"),
    [
        ("112 GiB", 112 * 2**30, "holds"),
        ("112 GiB", 112 * 10**9, "GB, not GiB"),
        ("304 MiB", 304 * 10**6, "MB, not MiB"),
        ("10 GiB", 10.8 * 2**30, "close"),
        ("20 MiB", 15 * 2**20, "33 % too high"),
        ("10 MiB", 30 * 2**20, "3.0× too low"),
    ],
)
def test_a_verdict_follows_from_the_two_numbers(claimed, found, verdict):
    assert verdicts.judged_bytes(claimed, found) == verdict


def test_the_textbooks_parts_are_its_sixteen_bytes():
    assert sum(ablation.TRAINED_PARTS.values()) == TRAINED


def test_every_quoted_quantity_is_judged(claims):
    assert len(claims) >= 24
    assert all(claim.found and claim.verdict for claim in claims.values())
    assert {claim.topic for claim in claims.values()} == {
        "Full fine-tuning",
        "LoRA",
        "QLoRA",
        "Checkpointing",
        "Paging",
    }


@pytest.mark.parametrize(
    ("quote", "verdict"),
    [
        ("16 N bytes of weights, gradients and Adam", "holds"),
        ("7B: 16 × 7e9 = 112 GiB", "GB, not GiB"),
        ("frozen base: ~0.56 N bytes", "holds"),
        ("3.6× smaller than fp16", "holds"),
        ("~8× less than full FT", "holds"),
        ("~27× less than full FT", "holds"),
        ("scales: 4 × N/64 = N/16 bytes (one fp16 scale per block)", "bytes right, name wrong"),
        ("double quantization saves another ~0.5 bytes per weight", "10.7× too high"),
        ("doesn't change the relative footprint of the three regimes", "it does"),
    ],
)
def test_a_claim_of_the_seed_gets_its_verdict(claims, quote, verdict):
    assert claims[quote].verdict == verdict


def test_claims_about_measurements_are_left_out_where_there_are_none(tmp_path):
    runs = selection.load(write_results(tmp_path, grid(regime=("lora",)), lambda spec: "oom"))
    assert "Checkpointing" not in {claim.topic for claim in textbook_claims.claims(runs)}


def test_the_seeds_lora_weights_are_found_to_be_its_total(runs):
    raw = textbook_cells.cells(runs).raw.set_index(["setting", "cell"])["verdict"]
    assert raw["LoRA r=8", "Weights"] == raw["QLoRA r=8", "Weights"] == "2.7× too high"
    assert raw["LoRA r=8", "Adam"] == "holds"
    assert raw["Full FT", "Weights"] == "MB, not MiB"


def test_measured_columns_add_up_to_the_peak(runs):
    rows = ablation.ablation(runs).set_index("Source").loc["measured"]
    assert (rows["Weights"] + rows["Grad"] + rows["Adam"] == rows["Total trainable"]).all()
    assert (rows["Approx total"] + rows["Activations"] == rows["Peak"]).all()


def test_the_13b_drill_is_answered_from_the_shape():
    model = PRESETS["llama-13b"]
    by_hand = 16 * sum(d_in + d_out for d_in, d_out in model.linears.values()) * model.layers
    assert drills.adapters_13b() == by_hand == 62_586_880
    verdict = drills.thirteen_billion().shown[f"Of {drills.CARD}"]
    assert [text.startswith("fits") for text in verdict] == [False, False, True]


def test_double_quantization_saves_an_eighth_or_three_eighths_of_a_bit():
    saved = drills.scale_overhead().raw["bits_saved"]
    assert saved.tolist() == pytest.approx([0.124, 0.373], abs=1e-3)


def test_a_longer_sequence_never_fits_a_smaller_card():
    predicted = cards.predictions()
    for _, rows in predicted.groupby(["model", "regime", "checkpointing"]):
        held = [cards.longest(rows, capacity) for capacity in cards.CARDS.values()]
        assert held == sorted(held)
        assert rows["requested_peak_bytes"].is_monotonic_increasing


def test_what_is_left_of_a_card_is_the_card_less_what_it_shows():
    raw, shown = (getattr(drills.thirteen_billion(), side) for side in ("raw", "shown"))
    room = (parse_bytes(drills.CARD) - raw["process_peak_bytes"]).tolist()
    assert [text.split(",")[0].split(" too")[0] for text in shown[f"Of {drills.CARD}"]][:2] == [
        format_bytes(-size) for size in room[:2]
    ]
    assert shown[f"Of {drills.CARD}"].iloc[2] == f"fits, {format_bytes(room[2])} left"
