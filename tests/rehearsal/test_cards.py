"""The catalogue: every card is complete, found by what people type, and says where its figures come from."""

import re

import pytest

from footprint.errors import FootprintError
from footprint.spec.cards import Card, catalogue, find

CARDS = list(catalogue().values())


def test_there_are_the_cards_that_people_rent_and_own():
    asked = "t4 v100-16gb rtx-2080-ti rtx-3090 rtx-4090 rtx-5090 a10 a10g a40 rtx-a6000 l4 l40s a100-40gb a100-80gb"
    asked += " h100-80gb h100-pcie-80gb h100-nvl h200 b200"
    assert set(asked.split()) <= set(catalogue())
    assert len(CARDS) >= 25


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.key)
def test_a_card_is_possible_and_says_where_it_is_known_from(card: Card):
    assert re.fullmatch(r"\d+\.\d", card.capability)
    assert card.threads in (1024, 1536, 2048)
    assert 0 < card.block_memory <= card.shared_memory
    assert 2**20 <= card.cache < 2**28
    assert 2**27 <= card.context < 2**30 < card.total
    assert len(card.source) > 20
    printed = re.search(r"(\d+)gb", card.key)
    if printed:  # the driver reports a little less than what is printed on the card
        assert 0.9 * int(printed[1]) * 2**30 < card.total <= int(printed[1]) * 2**30


@pytest.mark.parametrize("typed", ["a100-80gb", "A100 80GB", "a100_80gb", " A100-80GB "])
def test_a_card_is_found_as_people_type_it(typed):
    assert find(typed) is catalogue()["a100-80gb"]


@pytest.mark.parametrize(("typed", "meant"), [("a100", "a100-80gb"), ("h100", "h100"), ("rtx4090", "rtx-4090")])
def test_what_is_not_in_the_catalogue_is_answered_with_what_may_be_meant(typed, meant):
    with pytest.raises(FootprintError, match=f"card: '{typed}' is not in the catalogue .did you mean .*{meant}"):
        find(typed)


def test_what_the_stand_in_reads_holds_every_figure():
    card = find("t4")
    assert card.described(2) == f"Tesla T4;7;5;40;1024;16;65536;65536;4194304;{card.total};{card.context};2"
