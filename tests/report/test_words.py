"""Numbers and names as the report writes them."""

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from nbconvert.filters import markdown2html
from synthetic import HOSTILE

from footprint.report.page.words import counted, escape, listing, percent, shortened


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.12345, "12 %"),
        (0.0123, "1.2 %"),
        (0.00123, "0.12 %"),
        (0.00002, "0.002 %"),
        (1e-7, "under 0.001 %"),
    ],
)
def test_a_percentage_shows_the_digits_that_matter(share, text):
    assert percent(share) == text


def test_a_signed_percentage_has_a_real_minus_sign():
    assert percent(-0.25, signed=True) == "−25 %"
    assert percent(0.25, signed=True) == "+25 %"
    assert percent(0.0, signed=True) == "0 %"


def test_lists_and_counts_read_like_sentences():
    assert [listing("a"), listing("ab"), listing("abc"), listing("")] == ["a", "a and b", "a, b and c", ""]
    assert [counted(1, "run"), counted(2100, "run")] == ["1 run", "2,100 runs"]
    assert shortened("minigpt", 5) == "mini…"


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
@settings(max_examples=200, deadline=None)
def test_an_escaped_name_means_itself_in_markdown(name):
    shown = BeautifulSoup(markdown2html(f"of {escape(name)} here"), "html.parser")
    assert shown.text.strip() == f"of {name} here"
    assert {tag.name for tag in shown.find_all()} <= {"p"}


def test_a_hostile_name_means_itself_in_markdown():
    assert BeautifulSoup(markdown2html(escape(HOSTILE.name)), "html.parser").text.strip() == HOSTILE.name
