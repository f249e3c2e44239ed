"""Figures: their titles are findings, their text is escaped, they follow the page's theme and work in grey."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from synthetic import ABLATION, HOSTILE, SMALL, grid, write_experiment, write_results, write_study

from footprint.measure.provenance import REPOSITORY
from footprint.report.figures import cards as figures_cards
from footprint.report.figures import choices as figures_choices
from footprint.report.figures import curves as figures_curves
from footprint.report.figures import frontier as figures_quality
from footprint.report.figures import memory as figures
from footprint.report.figures import several_gpus as figures_gpus
from footprint.report.figures import step as figures_step
from footprint.report.figures import timeline as figures_timeline
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, PALETTE, WIDE, Drawing
from footprint.report.reading import results, selection, several_gpus, study
from footprint.report.reading.cards import predictions

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # matplotlib warns where a layout has no room

SVG = "{http://www.w3.org/2000/svg}"
FIGURES = {
    "regimes": figures.regimes,
    "buckets": figures.buckets,
    "accuracy": figures.accuracy,
    "phases": figures.phases,
    "ranks": figures_choices.ranks,
    "targets": figures_choices.targets,
    "checkpointing": lambda runs: figures_choices.checkpointing(runs, 0.5),
    "cards": lambda runs: figures_cards.figure(predictions()),
    "gpus": lambda runs: figures_gpus.peaks(several_gpus.load(REPOSITORY / "results" / "reference")),
}
STUDY_FIGURES = {
    "frontier": figures_quality.frontier,
    "curves": figures_curves.curves,
    "loss-ranks": figures_curves.ranks,
}


@pytest.fixture(scope="module", name="directory")
def _directory(tmp_path_factory) -> Path:
    directory = write_results(tmp_path_factory.mktemp("ablation"), ABLATION)
    write_experiment(directory, ABLATION)
    return write_study(directory)


@pytest.fixture(scope="module", name="runs")
def _runs(directory):
    return selection.load(directory)


@pytest.fixture(params=[*FIGURES, *STUDY_FIGURES, "timeline", "step"], name="drawing")
def _drawing(request, directory, runs) -> Drawing:
    if request.param in ("timeline", "step"):
        draw = {"timeline": figures_timeline.timeline, "step": figures_step.step}[request.param]
        return draw(results.timelines(directory, runs))
    if request.param in STUDY_FIGURES:
        return STUDY_FIGURES[request.param](study.load(directory))
    return FIGURES[request.param](runs)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_figure_is_one_element_named_by_its_finding(drawing, width):
    root = ET.fromstring(drawing.svg("fig", width))
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == drawing.alt
    assert root.find(f"{SVG}title").text == drawing.finding
    words = " ".join(part for text in root.iter(f"{SVG}text") for part in text.itertext())
    assert all(word in words for word in drawing.finding.split()), "the title is drawn, too"


def test_every_figure_has_parts_that_tell_their_numbers_and_their_run(drawing):
    root = ET.fromstring(drawing.svg("fig"))
    told = [part.find(f"{SVG}title").text for part in root.iter() if part.get("class") == "tells"]
    assert len(told) > 3
    assert all(re.search(r"(Full FT|LoRA).*\d", text) for text in told)


def test_a_title_states_a_number(drawing):
    assert re.search(r"\d", drawing.finding)


def test_every_colour_follows_the_theme(drawing):
    svg = re.sub(r"var\(--\w+, #[0-9a-f]{6}\)", "", drawing.svg("fig"))
    assert not re.search(r"#[0-9a-fA-F]{6}\b|rgb\(", svg)


def test_ids_differ_between_the_figures_of_a_page(runs):
    page = figures.regimes(runs).svg("one") + figures.buckets(runs).svg("two")
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page)) <= set(ids)


def test_axes_are_labelled_with_their_unit(runs):
    for draw, unit in ((figures.regimes, "peak memory (MiB)"), (figures.phases, "live bytes (MiB)")):
        assert unit in draw(runs).svg("fig")


def test_the_bytes_of_disturbed_runs_stay_in_the_figure(directory, runs):
    """A neighbour while steps were timed withholds the times of every pair, and no byte."""
    quiet = figures_choices.checkpointing(runs, 0.5)
    disturbed = figures_choices.checkpointing(runs.assign(neighbour_load=0.5), 0.5)
    assert disturbed.finding == quiet.finding
    assert disturbed.svg("fig").count('class="tells"') == quiet.svg("fig").count('class="tells"') > 0
    assert "of time" in quiet.svg("fig")
    assert "of time" not in disturbed.svg("fig")
    assert "times disturbed, not shown" in disturbed.svg("fig")


def test_the_regimes_are_ranked_by_what_they_need(runs):
    assert re.fullmatch(r"QLoRA r=8 peaks at [\d.]+ MiB, [\d.]+ times less than Full FT", figures.regimes(runs).finding)


def test_a_timeline_rises_to_the_peak_of_its_run(directory, runs):
    for run, measured, predicted in results.timelines(directory, runs):
        assert figures_timeline.highest(measured).total == figures_timeline.highest(predicted).total
        assert figures_timeline.highest(predicted).total == run["peak_bytes_predicted"]
        places = figures_timeline.places(measured)
        assert places == sorted(places)
        assert len(places) == len(measured) == len(predicted)


def test_without_a_kept_timeline_there_is_one_sentence(tmp_path, runs):
    with pytest.raises(NoRunsError, match=r"^No timeline [^.]+\.$"):
        figures_timeline.timeline(results.timelines(tmp_path, runs))


def test_of_many_runs_the_worst_predicted_are_drawn(runs):
    assert len(runs) > figures.MOST_ROWS
    assert figures.buckets(runs).finding.startswith(f"The {figures.MOST_ROWS} runs predicted worst")


def test_a_run_out_of_memory_keeps_its_place(tmp_path):
    specs = grid(regime=("full", "lora"))
    drawing = figures.regimes(selection.load(write_results(tmp_path, specs, lambda spec: "oom")))
    assert "Full FT out of memory, predicted" in drawing.alt
    assert drawing.svg("fig", NARROW).count("out of memory") >= 2


@pytest.mark.parametrize("name", ["accuracy", "phases", "ranks", "targets", "checkpointing"])
def test_a_figure_without_runs_says_why_in_one_sentence(tmp_path, name):
    runs = selection.load(write_results(tmp_path, grid(regime=("lora",)), lambda spec: "oom"))
    with pytest.raises(NoRunsError, match=r"^[A-Z][^.]+\.$"):
        FIGURES[name](runs)


@pytest.mark.parametrize("draw", [figures.regimes, figures.buckets], ids=["regimes", "buckets"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_hostile_name_stays_text(tmp_path, draw, width):
    specs = [spec for model in (HOSTILE, SMALL) for spec in grid(model, regime=("full", "lora"))]
    root = ET.fromstring(draw(selection.load(write_results(tmp_path, specs))).svg("fig", width))
    assert not list(root.iter(f"{SVG}script"))


def test_buckets_differ_in_grey():
    def grey(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    steps = [grey(PALETTE[name]) for name in ("weights", "gradients", "optimizer", "activations")]
    assert all(after - before > 25 for before, after in pairwise(steps))


def test_the_page_has_every_colour_in_both_themes():
    css = (Path(REPOSITORY) / "report" / "page.css").read_text(encoding="utf-8")
    pairs = dict(re.findall(r"--(\w+): light-dark\((#\w+), #\w+\)", css))
    assert {name: pairs.get(name) for name in PALETTE} == PALETTE
