"""docs/several-gpus.md says what the table says, and the table has what was asked for."""

from itertools import product

from clone import REPOSITORY
from several_gpus import page

from footprint.report.figures.several_gpus import share
from footprint.report.reading.several_gpus import asked, load

TOLD = asked()
FOUND = load(REPOSITORY / "results" / "reference")
TABLE = FOUND.runs


def test_the_page_shows_the_table():
    assert (REPOSITORY / "docs" / "several-gpus.md").read_text() == page(FOUND)


def test_every_setting_that_was_asked_for_was_tried():
    wanted = set(product(TOLD["models"], TOLD["regimes"], TOLD["checkpointing"]))
    assert set(TABLE[["model", "regime", "checkpointing"]].itertuples(index=False, name=None)) == wanted


def test_in_full_every_number_of_cards_was_tried():
    full = TABLE[TABLE["regime"] == "full"]
    for _, rows in full.groupby(["model", "checkpointing"]):
        assert list(rows["gpus"]) == TOLD["gpus"]
    assert set(full["model"]) == set(TOLD["models"])


def test_otherwise_the_search_ends_where_every_card_holds_it_or_no_more_were_to_be_tried():
    others = TABLE[TABLE["regime"] != "full"]
    held = others[[f"fits_{card}" for card in TOLD["cards"]]].all(axis=1)
    for _, rows in others.groupby(["model", "regime", "checkpointing"]):
        assert list(rows["gpus"]) == TOLD["gpus"][: len(rows)]
        assert not held[rows.index[:-1]].any()
        assert held[rows.index[-1]] or len(rows) == len(TOLD["gpus"])


def test_no_full_fine_tuning_takes_less_than_the_textbook_says():
    full = TABLE[TABLE["regime"] == "full"]
    assert (full["peak_allocated_bytes"] > [share(run) for _, run in full.iterrows()]).all()


def test_what_fits_the_smaller_card_fits_the_larger_one():
    small, large = (f"fits_{card}" for card in TOLD["cards"])
    assert (~TABLE[small] | TABLE[large]).all()
