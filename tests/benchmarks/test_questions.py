"""docs/questions.md says what the table says, the table is of the questions that are asked, and each can be asked."""

import pandas as pd
import pytest
import yaml
from clone import REPOSITORY
from questions import QUESTIONS, options_of, page, reported_bytes

from footprint.command.arguments import parser
from footprint.spec.cards import catalogue

TOLD = yaml.safe_load((REPOSITORY / QUESTIONS).read_text())
TABLE = pd.read_csv(REPOSITORY / "results" / "reference" / "questions" / "questions.csv")


def test_the_page_shows_the_table():
    assert (REPOSITORY / "docs" / "questions.md").read_text() == page(TOLD["questions"], TABLE)


def test_the_table_has_every_run_of_every_question_with_what_was_reported():
    asked = [(one["title"], run["name"]) for one in TOLD["questions"] for run in one["runs"]]
    assert list(zip(TABLE["question"], TABLE["run"], strict=True)) == asked
    reported = [reported_bytes(run.get("reported")) for one in TOLD["questions"] for run in one["runs"]]
    assert [None if pd.isna(size) else int(size) for size in TABLE["reported_bytes"]] == reported
    assert len(TOLD["questions"]) == 8


def test_where_the_setting_is_known_the_rehearsal_is_within_one_and_a_half_percent():
    """PEFT's own comparison of methods on an L40S, at the 768 tokens that its sequences may have at most."""
    rows = TABLE[TABLE["question"].str.startswith("Adapters of the same size")]
    errors = rows["reserved_peak_bytes"] / rows["reported_bytes"] - 1
    assert errors.abs().max() < 0.015
    assert errors.abs().mean() < 0.01


@pytest.mark.parametrize("question", TOLD["questions"], ids=lambda question: question["title"])
def test_a_question_is_a_command_line(question):
    commands = dict.fromkeys(("predict", "fit", "measure", "verify", "rehearse", "cards"), print)
    assert question["card"] in catalogue()
    for run in question["runs"]:
        told = ["rehearse", "--hf-config", f"{question['model']}.json", *options_of(question, run)]
        assert parser(**commands).parse_args(told).card == question["card"]
        assert question["model"] in TOLD["models"]
