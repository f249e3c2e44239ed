"""The section on several cards: which number of them is the fewest, and what becomes of the lesson's 4 to 8."""

import pandas as pd
import pytest
from clone import REPOSITORY

from footprint.predict.textbook import TRAINED
from footprint.report.figures import several_gpus as figures
from footprint.report.reading.several_gpus import Sharded, asked, load, room, sharded
from footprint.report.sentences import several_gpus as sentences
from footprint.report.tables.several_gpus import TIGHT, fewest_cards
from footprint.report.textbook.several_gpus import cards

REFERENCE = REPOSITORY / "results" / "reference"
SMALL, LARGE = "a100-40gb", "a100-80gb"
TOLD = {"cards": [SMALL, LARGE], "gpus": [1, 2, 4, 8], "tokens": 64, "regimes": ["full"], "checkpointing": ["block"]}


def found(**needed: tuple[int, int]) -> Sharded:
    """By model the fewest of either card that hold it in full, nothing at all where it takes more than were tried."""
    rows = [
        {"model": model, "parameters": 10**9, "regime": "full", "checkpointing": "block", "gpus": gpus}
        | {"peak_allocated_bytes": 2 * TRAINED * 10**9 // gpus, "peak_reserved_bytes": 3 * TRAINED * 10**9 // gpus}
        | {f"fits_{SMALL}": gpus >= small, f"fits_{LARGE}": gpus >= large}
        for model, (small, large) in needed.items()
        for gpus in TOLD["gpus"]
    ]
    return sharded(TOLD | {"models": list(needed)}, pd.DataFrame(rows))


def test_the_fewest_cards_are_the_first_that_hold_a_run():
    shown = fewest_cards(found(a=(4, 2), b=(16, 8))).shown
    assert list(shown["A100 40GB"]) == ["4", "> 8"]
    assert list(shown["A100 80GB"]) == ["2", "8"]


def test_a_run_that_a_card_holds_only_with_an_empty_cache_is_marked():
    tight = found(a=(1, 1))
    assert tight.runs["peak_reserved_bytes"].iloc[0] > room(SMALL)
    assert list(fewest_cards(tight).shown["A100 40GB"]) == [f"1{TIGHT}"]
    assert list(fewest_cards(tight).shown["A100 80GB"]) == ["1"]


def test_what_was_not_tried_to_the_end_is_not_called_more_than_was_tried():
    cut = found(a=(16, 16))
    cut = sharded(TOLD | {"models": ["a"]}, cut.runs[cut.runs["gpus"] < 8])
    assert sentences.number(cut, SMALL, "a", "full", "block") == "not tried"


@pytest.mark.parametrize(
    ("needed", "verdict"),
    [
        ({"llama-7b": (4, 2), "llama-13b": (8, 4)}, "holds"),
        ({"llama-7b": (4, 2), "llama-70b": (16, 16)}, "for 7B only"),
        ({"llama-7b": (2, 1), "llama-70b": (16, 16)}, "for no size only"),
    ],
)
def test_the_claim_holds_for_the_sizes_that_take_four_to_eight_of_some_card(needed, verdict):
    assert cards("Full fine-tuning", 7e9, found(**needed)).verdict == verdict


def test_without_rehearsals_the_claim_is_held_against_the_parameters_alone(tmp_path):
    assert load(tmp_path) is load(None) is None
    claim = cards("Full fine-tuning", 7e9, None)
    assert claim.found == "at least 3 of 40 GiB or 2 of 80 GiB"
    assert claim.verdict == "plausible"


def test_the_title_names_the_cards_that_the_table_shows():
    reference = load(REFERENCE)
    shown = fewest_cards(reference).shown
    full = shown[shown["Regime"] == "Full FT"].set_index("Model")["A100 80GB"].str.rstrip(TIGHT)
    least = {model: cell.split(" / ")[-1] for model, cell in full.items()}
    assert least == {"7B": "2", "13B": "4", "70B": "16"}
    for model, count in least.items():
        assert f"of {model} {count}" in sentences.title(reference).replace("takes ", "")


def test_every_mark_of_the_figure_tells_the_textbooks_share_beside_its_peak():
    reference = load(REFERENCE)
    svg = figures.peaks(reference).svg("fig")
    models, modes, counts = (len(asked()[name]) for name in ("models", "checkpointing", "gpus"))
    assert svg.count('class="tells"') == models * modes * counts
    assert "llama-7b, Full FT, block checkpoints, 8 cards: 15.2 GiB allocated on each, rehearsed" in svg
    assert "16 N / 8 is 12.6 GiB" in svg
