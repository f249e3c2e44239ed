"""Loss and speed beside memory: what the report says of a quality study, and what it must not claim."""

import base64
import gzip
import json
import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import style
from synthetic import BASE_LOSS, HOSTILE, SMALL, STUDY, final_loss, grid, write_results, write_study

from footprint.errors import FootprintError
from footprint.report.figures import curves as figures_curves
from footprint.report.figures import frontier as figures_quality
from footprint.report.figures import labels
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, STYLE, WIDE
from footprint.report.page.table import csv_link
from footprint.report.page.words import bits_apart, change, duration
from footprint.report.reading import study
from footprint.report.render import headline
from footprint.report.sentences import study as findings_quality
from footprint.report.tables import study as tables_quality

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

SVG = "{http://www.w3.org/2000/svg}"
REGIMES = [(spec, seed) for spec in grid(regime=("full", "lora", "qlora")) for seed in (0, 1, 2)]
DENSE = grid(regime=("full", "lora", "qlora"), rank=(2, 8, 32), checkpointing=("none", "block", "sqrt"))[:20]
MANY = grid(
    regime=("full", "lora", "qlora"),
    rank=(1, 2, 4, 8, 16, 32, 64),
    targets=("all-linear", "qv"),
    checkpointing=("none", "block"),
    precision=("mixed",),
) + grid(regime=("full",), precision=("bf16", "fp32"))


def of(directory: Path, runs=STUDY, **options) -> study.Study:
    """The study of these runs as the report reads it."""
    return study.load(write_study(directory, runs, **options))


@pytest.fixture(scope="module", name="usual")
def _usual(tmp_path_factory) -> study.Study:
    return of(tmp_path_factory.mktemp("study"))


def titles(found: study.Study) -> list[str]:
    """What the notes on a study are about."""
    return [title for title, _ in findings_quality.notes(found)]


class TestReading:
    """The three tables as they lie beside the others."""

    def test_a_folder_without_a_study_has_none(self, tmp_path):
        assert study.load(tmp_path) is None

    @pytest.mark.parametrize("missing", ["quality", "curves", "bases"])
    def test_a_part_of_a_study_is_refused_by_name(self, tmp_path, missing):
        write_study(tmp_path)
        (tmp_path / f"{missing}.csv").unlink()
        with pytest.raises(FootprintError, match=rf"the quality study lacks {missing}\.csv"):
            study.load(tmp_path)

    def test_a_missing_column_is_named(self, tmp_path):
        write_study(tmp_path)
        pd.read_csv(tmp_path / "curves.csv").drop(columns="split").to_csv(tmp_path / "curves.csv", index=False)
        with pytest.raises(FootprintError, match=r"curves\.csv: lacks the columns split"):
            study.load(tmp_path)

    def test_a_seed_that_appears_twice_is_refused(self, tmp_path):
        with pytest.raises(FootprintError, match=r"quality\.csv: no runs, or one twice"):
            of(tmp_path, [STUDY[0], STUDY[0]])

    def test_a_base_of_digits_stays_a_name(self, usual):
        assert set(usual.runs["base"]) == {"1234567890123456"}

    def test_a_setting_stands_for_its_seeds(self, usual):
        full = usual.settings.iloc[0]
        losses = [final_loss(spec, seed) for spec, seed in STUDY if spec == STUDY[0][0]]
        assert (full["name"], full["seeds"], full["finished"]) == ("Full FT", 3, 3)
        assert full["loss"] == pytest.approx(np.mean(losses))
        assert (full["loss_low"], full["loss_high"]) == pytest.approx((min(losses), max(losses)))
        assert usual.noise == pytest.approx(max(losses) - min(losses))

    def test_a_seed_that_failed_does_not_count(self, tmp_path):
        found = of(tmp_path, REGIMES, status=lambda spec, seed: "diverged" if seed == 2 else "ok")
        full = found.settings.iloc[0]
        assert (full["seeds"], full["finished"], full["failed"]) == (3, 2, {"diverged": 1})
        assert full["loss_high"] == pytest.approx(final_loss(REGIMES[0][0], 1))
        assert "2 of 3: 1 diverged" in tables_quality.settings(found).html()


class TestFrontier:
    """Memory against loss."""

    def test_what_another_setting_beats_in_both_is_dominated(self):
        rows = pd.DataFrame({"peak_bytes": [1, 2, 3, 3, 4], "loss": [3.0, 2.0, 2.5, 1.0, 1.0]})
        rows["losses"] = [{0: loss} for loss in rows["loss"]]
        assert list(study.dominated(rows)) == [False, False, True, False, True]

    def test_equals_do_not_dominate_each_other(self):
        rows = pd.DataFrame({"peak_bytes": [1, 1], "loss": [2.0, 2.0], "losses": [{0: 2.0}, {0: 2.0}]})
        assert not study.dominated(rows).any()

    def test_an_unlucky_seed_does_not_decide_what_dominates(self):
        """The first setting has a second, worse seed; on the seed both have they are equal."""
        rows = pd.DataFrame({"peak_bytes": [1, 1], "loss": [2.1, 2.0], "losses": [{0: 2.0, 1: 2.2}, {0: 2.0}]})
        assert not study.dominated(rows).any()

    def test_without_a_shared_seed_the_means_decide(self):
        rows = pd.DataFrame({"peak_bytes": [1, 1], "loss": [2.1, 2.0], "losses": [{0: 2.1}, {1: 2.0}]})
        assert list(study.dominated(rows)) == [True, False]

    def test_its_title_compares_the_regimes_at_one_setting(self, usual):
        finding = figures_quality.frontier(usual).finding
        times = re.fullmatch(
            r"QLoRA r=8 needs ([\d.]+) times less memory than Full FT and ends 0\.1\d\d bits per byte higher", finding
        )
        peaks = usual.settings.set_index("name")["peak_bytes"]
        assert float(times[1]) == pytest.approx(peaks["Full FT"] / peaks["QLoRA r=8"], abs=0.05)

    def test_its_title_does_not_call_chance_a_difference(self, tmp_path):
        found = of(tmp_path, REGIMES, loss=lambda spec, seed: 2.2 + 0.1 * seed + 0.01 * len(spec.regime))
        assert figures_quality.frontier(found).finding.endswith("their losses differ no more than those of seeds")

    def test_its_title_says_when_the_smallest_is_the_best(self, tmp_path):
        found = of(tmp_path, REGIMES, loss=lambda spec, seed: 2.4 - 0.1 * len(spec.regime))
        assert figures_quality.frontier(found).finding.startswith("QLoRA r=8 ends lowest")

    def test_memory_that_buys_no_more_than_chance_is_not_on_the_line(self, tmp_path):
        """The regimes lie closer than seeds; only the one that needs least memory is left."""
        found = of(tmp_path, REGIMES, loss=lambda spec, seed: 2.2 + 0.05 * seed - 0.001 * len(spec.regime))
        kept = found.finished[~found.dominated.to_numpy()]
        assert list(kept["name"]) == ["QLoRA r=8"]

    def test_memory_that_buys_more_than_chance_is_on_the_line(self, tmp_path):
        found = of(tmp_path, REGIMES, loss=lambda spec, seed: 2.2 + 0.001 * seed + 0.1 * len(spec.regime))
        assert not found.dominated[(found.finished["regime"] != "full").to_numpy()].all()

    @pytest.mark.parametrize("width", [WIDE, NARROW])
    @pytest.mark.parametrize("specs", [DENSE, MANY], ids=["20", "60"])
    def test_no_label_covers_another_or_leaves_the_figure(self, tmp_path, width, specs):
        drawing = figures_quality.frontier(of(tmp_path, [(spec, 0) for spec in specs]))
        with style.context(STYLE):
            figure = drawing.figure(width)
            figure.draw_without_rendering()
            # An annotation's extent holds its leader, too: only the text counts.
            texts = [text for text in figure.axes[0].texts if text.get_text()]
            boxes = [super(type(text), text).get_window_extent() for text in texts]
        assert len(texts) >= 5
        assert all(not one.overlaps(other) for one, other in combinations(boxes, 2))
        right = width * figure.dpi
        assert all(box.x0 >= 0 and box.x1 <= right for box in boxes)

    def test_twenty_settings_are_nearly_all_named(self, tmp_path):
        with style.context(STYLE):
            axes = figures_quality.frontier(of(tmp_path, [(spec, 0) for spec in DENSE])).figure().axes[0]
        assert len(axes.texts) >= 0.8 * len(DENSE)

    def test_of_sixty_settings_only_those_nothing_dominates_are_named(self, tmp_path):
        found = of(tmp_path, [(spec, 0) for spec in MANY])
        assert len(found.settings) == 60
        best = found.settings[~study.dominated(found.settings).to_numpy()]
        with style.context(STYLE):
            axes = figures_quality.frontier(found).figure().axes[0]
        assert {text.get_text() for text in axes.texts} <= {name.replace(" checkpoints", "") for name in best["name"]}

    def test_every_setting_is_in_its_alternative_text(self, usual):
        alt = figures_quality.frontier(usual).alt
        assert all(f"{name} " in alt for name in usual.settings["name"])


class TestCurves:
    """Loss over steps, and over rank."""

    def test_the_settings_with_most_seeds_are_followed(self, usual):
        assert list(study.followed(usual)["name"]) == ["Full FT", "LoRA r=8", "QLoRA r=8"]

    def test_with_one_seed_each_one_setting_per_regime_is_followed(self, tmp_path):
        found = of(tmp_path, [run for run in STUDY if run[1] == 0])
        assert list(study.followed(found)["name"]) == ["Full FT", "LoRA r=8", "QLoRA r=8"]

    def test_thinning_keeps_the_mean_and_the_course(self):
        steps = pd.Series(np.linspace(3, 2, 3000), index=range(3000))
        thin = figures_curves.thinned(steps)
        assert len(thin) == 40
        assert thin.mean() == pytest.approx(steps.mean())
        assert all(before > after for before, after in pairwise(thin))
        assert len(figures_curves.thinned(steps[:7])) == 5
        assert list(figures_curves.thinned(steps[:2])) == list(steps[:2])

    def test_thousands_of_steps_make_a_small_drawing(self, tmp_path):
        found = of(tmp_path, steps=3000)
        assert len(figures_curves.curves(found).svg("curves")) < 40_000

    def test_the_ends_are_the_losses_of_the_table(self, usual):
        finding = figures_curves.curves(usual).finding
        ends = usual.settings.set_index("name")["loss"]
        assert f"from {BASE_LOSS:.3f} to {ends['Full FT']:.3f} with Full FT" in finding

    def test_rank_is_judged_among_settings_that_differ_in_nothing_else(self, tmp_path):
        """Rank 8 is there twice, on all Linears and on q and v: only one of them belongs to the series."""
        specs = grid(regime=("full", "lora"), rank=(2, 8, 32)) + grid(regime=("lora",), rank=(8,), targets=("qv",))
        (series,) = study.rank_series(of(tmp_path, [(spec, 0) for spec in specs]))
        assert list(series["rank"]) == [2, 8, 32]
        assert set(series["targets"]) == {"all-linear"}

    def test_one_rank_is_no_curve(self, tmp_path):
        with pytest.raises(NoRunsError, match=r"^No two settings [^.]+\.$"):
            figures_curves.ranks(of(tmp_path, REGIMES))

    @pytest.mark.parametrize("draw", [figures_quality.frontier, figures_curves.curves, figures_curves.ranks])
    def test_a_study_in_which_everything_diverged_has_no_figures(self, tmp_path, draw):
        with pytest.raises(NoRunsError, match=r"^No [^.]+\.$"):
            draw(of(tmp_path, status=lambda spec, seed: "diverged"))

    @pytest.mark.parametrize("draw", [figures_quality.frontier, figures_curves.curves, figures_curves.ranks])
    @pytest.mark.parametrize("width", [WIDE, NARROW])
    def test_a_hostile_name_stays_text(self, tmp_path, draw, width):
        specs = [spec for model in (HOSTILE, SMALL) for spec in grid(model, regime=("full", "lora"), rank=(2, 8))]
        root = ET.fromstring(draw(of(tmp_path, [(spec, 0) for spec in specs])).svg("fig", width))
        assert not list(root.iter(f"{SVG}script"))


class TestHonesty:
    """What a reader must not overlook."""

    def test_chance_is_judged_by_the_settings_compared(self, tmp_path):
        """Full fine-tuning's seeds lie far apart; that says nothing about two adapters."""
        wide = {"full": 0.3, "lora": 0.001, "qlora": 0.001}
        found = of(tmp_path, REGIMES, loss=lambda s, seed: 2.0 + 0.1 * len(s.regime) + wide[s.regime] * seed)
        text = dict(findings_quality.notes(found))["Some regimes cannot be told apart by loss"]
        assert "LoRA r=8 and QLoRA r=8" not in text

    def test_an_orderly_study_needs_no_note(self, tmp_path):
        assert titles(of(tmp_path, REGIMES)) == []

    def test_a_loss_that_did_not_fall_is_said_so(self, tmp_path):
        found = of(tmp_path, REGIMES, loss=lambda spec, seed: 3.3 if spec.regime == "full" else 2.5)
        notes = dict(findings_quality.notes(found))
        text = notes["Fine-tuning did not lower the loss everywhere"]
        assert text == "Validation loss did not fall for Full FT (3.100 before, 3.300 after)."

    def test_memory_that_buys_nothing_is_said_so(self, tmp_path):
        found = of(tmp_path, REGIMES, loss=lambda spec, seed: {"full": 2.5, "lora": 2.2, "qlora": 2.3}[spec.regime])
        text = dict(findings_quality.notes(found))["More memory did not buy a lower loss"]
        assert re.search(r"Full FT ends at 2\.500 with [\d.]+ MiB, LoRA r=8 at 2\.200 with [\d.]+ MiB", text)
        assert "QLoRA r=8 ends" not in text, "LoRA needs more than QLoRA and is better: that is what memory buys"

    def test_regimes_closer_than_seeds_cannot_be_told_apart(self, tmp_path):
        found = of(tmp_path, REGIMES, loss=lambda spec, seed: 2.2 + 0.05 * seed + 0.001 * len(spec.regime))
        text = dict(findings_quality.notes(found))["The regimes cannot be told apart by loss"]
        assert "Full FT and QLoRA r=8 end 0.0010" in text
        assert text.endswith("bits per byte apart; seeds alone move a final loss there by up to 0.100.")
        assert "More memory did not buy a lower loss" not in titles(found)

    def test_a_loss_that_rises_again_is_said_so(self, tmp_path):
        write_study(tmp_path, REGIMES)
        curves = pd.read_csv(tmp_path / "curves.csv", keep_default_na=False)
        late = (curves["split"] == "validation") & (curves["step"] == 75) & (curves["regime"] == "full")
        curves.loc[late, "bits_per_byte"] = 1.9
        curves.to_csv(tmp_path / "curves.csv", index=False)
        text = dict(findings_quality.notes(study.load(tmp_path)))["Loss rose again before the end"]
        assert text.startswith("Full FT was lowest at step 75 (1.900) and ended at 2.200")

    def test_one_seed_is_called_one_seed(self, tmp_path):
        assert "Some differences may be chance" in titles(of(tmp_path, [run for run in REGIMES if run[1] == 0]))

    def test_runs_that_failed_are_counted_and_in_no_figure(self, tmp_path):
        found = of(tmp_path, REGIMES, status=lambda spec, seed: "oom" if spec.regime == "full" else "ok")
        text = dict(findings_quality.notes(found))["Not every run finished"]
        assert text.startswith("3 runs ran out of memory: Full FT.")
        assert "Full FT" not in figures_quality.frontier(found).alt
        table = tables_quality.settings(found)
        assert table.marked[0] == "oom"
        assert table.shown.iloc[0]["Peak"] == "out of memory"
        assert table.shown.iloc[0]["Predicted"].endswith("MiB")

    def test_runs_from_several_bases_are_not_comparable(self, tmp_path):
        write_study(tmp_path, REGIMES)
        runs = pd.read_csv(tmp_path / "quality.csv", dtype=str, keep_default_na=False)
        runs.loc[0, "base"] = "fedcba9876543210"
        runs.to_csv(tmp_path / "quality.csv", index=False)
        assert "The runs do not start from one base" in titles(study.load(tmp_path))

    def test_a_study_without_a_finished_run_is_one_sentence_in_the_terminal_too(self, tmp_path):
        found = of(tmp_path, status=lambda spec, seed: "diverged")
        said = "Of 15 fine-tuning runs of the quality study none finished: 15 diverged."
        assert findings_quality.sentences(found) == [findings_quality.summary(found)] == [said]
        write_results(tmp_path, grid(regime=("full", "lora")))
        assert headline(tmp_path).splitlines()[3:] == [said]

    @pytest.mark.parametrize(("status", "ended"), [("oom", "ran out of memory"), ("diverged", "diverged")])
    def test_a_regime_without_a_finished_run_is_in_the_summary(self, tmp_path, status, ended):
        found = of(tmp_path, REGIMES, status=lambda spec, seed: status if spec.regime == "full" else "ok")
        lost = f"In the quality study no fine-tuning run finished with Full FT (3 {ended})."
        assert findings_quality.summary(found).endswith(f". {lost}")

    def test_a_regime_of_which_one_run_finished_is_not_called_lost(self, tmp_path):
        found = of(tmp_path, REGIMES, status=lambda spec, seed: "ok" if seed == 1 else "diverged")
        assert findings_quality.lost(found) is None

    @pytest.mark.parametrize("runs", [STUDY, STUDY[:1], REGIMES[::3]], ids=["usual", "one", "one-seed"])
    def test_no_sentence_holds_a_number_that_is_none(self, tmp_path, runs):
        found = of(tmp_path, runs)
        text = " ".join([findings_quality.summary(found), *findings_quality.sentences(found)])
        text += " ".join(text for _, text in findings_quality.notes(found)) + str(
            findings_quality.starting_point(found)
        )
        assert not re.search(r"\b(nan|inf)\b", text)


class TestTables:
    """The numbers behind the figures."""

    def test_a_step_is_shown_in_its_parts_and_with_how_far_it_may_be_off(self, usual):
        table = tables_quality.pace(usual)
        assert list(table.shown["Setting"]) == list(usual.settings["name"])
        parts = table.raw[["forward_seconds", "backward_seconds", "optimizer_seconds"]].sum(axis=1)
        assert np.allclose(parts, table.raw["step_seconds_middle"])
        assert all(re.fullmatch(r"\d+ ± \d+ ms", text) for text in table.shown["Step"])
        shares = table.shown[["Forward", "Backward", "Optimizer"]].map(lambda text: float(text.removesuffix(" %")))
        assert np.allclose(shares.sum(axis=1), 100, atol=1)

    def test_a_setting_whose_every_seed_was_disturbed_has_a_loss_and_no_time(self, tmp_path):
        write_study(tmp_path)
        runs = pd.read_csv(tmp_path / "quality.csv", dtype={"base": str}, keep_default_na=False)
        runs.loc[(runs["regime"] == "full") & (runs["checkpointing"] == "none"), "neighbour_load"] = 0.4
        runs.to_csv(tmp_path / "quality.csv", index=False)
        found = study.load(tmp_path)
        assert tables_quality.pace(found).shown.iloc[0]["Step"] == "disturbed"
        assert found.settings.iloc[0]["loss"] == pytest.approx(2.2)
        assert "step takes longest in Full FT" not in " ".join(findings_quality.sentences(found))

    def test_every_setting_has_its_row(self, usual):
        table = tables_quality.settings(usual)
        assert list(table.shown["Setting"]) == list(usual.settings["name"])
        assert table.shown.iloc[0][["Loss before", "Loss after", "Range over seeds"]].to_list() == [
            "3.100",
            "2.200",
            "2.196–2.204",
        ]
        assert "Error" not in table.shown, "exact in every row is no column"

    def test_qloras_starting_point_is_held_against_fp32(self, usual):
        table = tables_quality.bases(usual)
        assert list(table.shown["Stored as"]) == ["fp32", "bf16", "nf4", "nf4-double"]
        assert list(table.shown["Loss, pretraining text"]) == [
            "2.050",
            "2.050 (under 0.0001)",
            "2.071 (+0.021)",
            "2.072 (+0.022)",
        ]
        sentence = findings_quality.starting_point(usual)
        assert sentence.startswith(
            "Stored as nf4 instead of bf16, the base of minigpt-3m takes 1.89 MiB instead of 6.29"
        )
        assert "starts 0.023 bits per byte higher on the fine-tuning text" in sentence
        assert sentence.endswith("after the last step QLoRA r=8 is 0.042 bits per byte higher than LoRA r=8.")

    def test_recomputing_is_held_against_the_run_of_the_same_seed(self, usual):
        table = tables_quality.recomputing(usual)
        assert list(table.shown["Mode"]) == ["block checkpoints", "√L checkpoints"]
        assert (table.raw["loss_difference"] == 0).all(), "not against the mean over other seeds"
        assert list(table.shown["Step time"]) == ["+25 ± 3 %", "+20 ± 2 %"]
        assert findings_quality.recomputing(usual).startswith(
            "Recomputing leaves the loss exactly as it was, in 2 pairs"
        )

    def test_times_that_recomputing_cannot_explain_are_not_trusted(self, tmp_path):
        write_study(tmp_path)
        runs = pd.read_csv(tmp_path / "quality.csv", dtype={"base": str}, keep_default_na=False)
        runs.loc[runs["checkpointing"] == "block", "optimizer_seconds"] *= 1.5
        runs.to_csv(tmp_path / "quality.csv", index=False)
        sentence = findings_quality.recomputing(study.load(tmp_path))
        assert "The times of 1 of 2 pairs of runs are withheld, their bytes are not" in sentence
        assert "step time changes by +20 ± 2 % with √L checkpoints" in sentence

    def test_without_checkpointed_settings_there_is_one_sentence(self, tmp_path):
        with pytest.raises(NoRunsError, match=r"^The quality study has no setting both [^.]+\.$"):
            tables_quality.recomputing(of(tmp_path, REGIMES))

    def test_a_large_table_is_downloaded_compressed(self):
        frame = pd.DataFrame({"number": range(200_000)})
        link = csv_link(frame, "curves")
        data = re.search(r"href='data:application/gzip;base64,([^']+)'", link)[1]
        assert "download='curves.csv.gz'" in link
        assert gzip.decompress(base64.b64decode(data)).decode() == frame.to_csv(index=False)


def test_labels_keep_their_distance_and_their_order():
    heights = labels.spread([0, 1, 2, 30, 31], gap=10)
    assert heights == sorted(heights)
    assert all(after - before >= 10 - 1e-9 for before, after in pairwise(heights))
    assert labels.spread([0, 20, 40], gap=10) == [0, 20, 40]


def test_losses_and_steps_show_the_digits_that_matter():
    assert [bits_apart(x, signed=True) for x in (0.1234, -0.0004, 0.00001, 0)] == [
        "+0.123",
        "−0.0004",
        "under 0.0001",
        "0",
    ]
    assert [duration(x) for x in (0.0019, 0.0841, 1.234)] == ["1.9 ms", "84 ms", "1.23 s"]
    assert [duration(0.0841, 0.002), duration(1.234, 0.001)] == ["84 ± 2 ms", "1.23 ± 0.01 s"]
    assert [change(0.221), change(0.221, 0.03), change(-0.1, 0.001)] == ["+22 %", "+22 ± 3 %", "−10 ± 1 %"]


def test_tables_that_an_earlier_configuration_left_are_not_shown(tmp_path: Path):
    write_study(tmp_path)
    assert study.load(tmp_path) is not None
    text = {"kind": "path", "path": "text.txt", "sha256": "0" * 64}
    config = {"experiment": "trial", "grids": [{"model": "minigpt-3m", "regime": "full"}], "corpus": text}
    (tmp_path / "experiment.json").write_text(json.dumps(config))
    assert study.load(tmp_path) is None
