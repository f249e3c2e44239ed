"""Any experiment has a page: of one run, of failed runs, rehearsed, without a study, with a hostile name."""

import json
import re

import pytest
from report_page import STANDS_ALONE, linked_csv, page_of
from synthetic import ABLATION, HOSTILE, SMALL, STUDY, grid, write_experiment, write_results, write_study

from footprint.report.reading import results, selection

pytestmark = pytest.mark.xdist_group("report")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("specs", "status"),
    [
        (grid(regime=("qlora",)), "ok"),
        (grid(regime=("full",)), "diverged"),
        (grid(regime=("full",), seq=(32, 64)), "ok"),
        (grid(regime=("full", "lora", "qlora")), "oom"),
    ],
    ids=["one-row", "one-diverged", "full-only", "all-oom"],
)
def test_any_grid_has_a_page(tmp_path, specs, status):
    page = page_of(write_results(tmp_path, specs, lambda spec: status))
    assert {table["id"].removeprefix("tbl-") for table in page.select("figure[id^=tbl-]")} >= set(STANDS_ALONE)
    assert "nan" not in re.findall(r"\w+", page.find("main").text.lower())
    assert "No rehearsals over several cards lie in the reference folder." in page.text


def test_a_hostile_name_is_only_ever_text(tmp_path):
    specs = [
        spec
        for model in (HOSTILE, SMALL)
        for spec in grid(model, regime=("full", "lora"), checkpointing=("none", "block"))
    ]
    directory = write_results(tmp_path, specs, device_name=HOSTILE.name)
    write_study(directory, [(spec, 0) for spec in specs], status=lambda spec, seed: "ok" if spec.rank else "diverged")
    page = page_of(directory, experiment=HOSTILE.name)
    assert any(HOSTILE.name in facts.text.replace("\N{NO-BREAK SPACE}", " ") for facts in page.select(".facts"))
    assert [script for script in page.find_all("script") if "alert" in script.text] == []
    assert not page.find_all("a", href=lambda href: href.startswith("javascript"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "status"),
    [
        (STUDY[:1], "ok"),
        ([run for run in STUDY if run[1] == 0], "ok"),
        (STUDY, "diverged"),
        (STUDY, "oom"),
    ],
    ids=["one-setting", "one-seed", "all-diverged", "all-oom"],
)
def test_any_study_has_a_page(tmp_path, runs, status):
    directory = write_results(tmp_path, grid(regime=("full", "lora", "qlora")))
    write_study(directory, runs, status=lambda spec, seed: status)
    page = page_of(directory)
    settings = {spec for spec, _ in runs}
    assert len(page.select("#tbl-study tbody tr")) == len(settings)
    assert len(page.select("#fig-frontier svg")) == (2 if status == "ok" else 0)
    assert "nan" not in re.findall(r"\w+", page.find("main").text.lower())


def test_every_section_of_a_rehearsal_says_that_it_is_one(tmp_path):
    page = page_of(write_results(tmp_path, ABLATION[:6], source="rehearsed", card="t4"))
    for name in ("changes", "ablation", "estimates", "phases", "ranks", "checkpointing"):
        assert page.find(id=name).find_next_sibling().text.startswith("Rehearsed, not measured"), name


def test_rows_of_several_commits_are_said_to_differ(tmp_path):
    runs = selection.load(write_results(tmp_path, grid(regime=("full", "lora"))))
    assert results.mixture(runs) == "All rows come from one device, one commit and one set of versions."
    runs.loc[0, "git_commit"] = "fedcba987654"
    text = results.mixture(runs)
    assert "The rows do not come from one place" in text
    assert "2 commits (0123456789ab and fedcba987654)" in text


def test_an_experiment_without_a_quality_study_says_so_in_one_sentence(tmp_path):
    page = page_of(write_results(tmp_path, grid(regime=("full", "lora"))))
    heading = page.find("h2", id="loss")
    section = [element for element in heading.find_next_siblings() if element.name in ("p", "figure", "h2")]
    assert re.fullmatch(r"These runs have no quality study [^.]+\.", section[0].text.replace("\n", " "))
    assert section[1].name == "h2"
    assert not page.select("#fig-frontier, #tbl-study, #tbl-bases")
    assert len(page.select(".answer li")) == 3


def test_the_grid_says_whether_the_prediction_foresaw_who_fits(tmp_path):
    """The full run is predicted not to fit and does not; of two that fit, one is said to have run out all the same."""
    specs = grid(regime=("full", "lora", "qlora"))
    write_results(tmp_path, specs, lambda spec: "ok" if spec.regime == "qlora" else "oom")
    write_experiment(tmp_path, specs)
    config = json.loads((tmp_path / "experiment.json").read_text())
    config["training"] = {"memory_limit": "45MiB"}
    (tmp_path / "experiment.json").write_text(json.dumps(config))
    page = page_of(tmp_path)
    heads = [cell.text for cell in page.select("#tbl-grid thead th")]
    column = heads.index("Within 45.0\N{NO-BREAK SPACE}MiB?")
    full, lora, qlora = (row.find_all(["th", "td"])[column].text for row in page.select("#tbl-grid tbody tr"))
    assert re.fullmatch(r"[\d.]+\sMiB too much ✓", full)
    assert re.fullmatch(r"fits, [\d.]+\sMiB left ✗ wrong", lora)
    assert re.fullmatch(r"fits, [\d.]+\sMiB left ✓", qlora)
    assert "The prediction foresaw 1 of 2 runs that went out of memory at the limit of 45.0 MiB" in page.text.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert list(linked_csv(page.select_one("#tbl-grid a.csv"))["foreseen"]) == [True, False, True]
