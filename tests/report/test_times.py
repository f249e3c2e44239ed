"""One test decides whether a time is shown, and it never touches a byte."""

from math import nan

import pandas as pd
import pytest
from synthetic import grid, times, write_results

from footprint.report.reading import effects, selection
from footprint.report.reading import times as reading
from footprint.report.sentences.clock import how_far_off
from footprint.report.tables import runs as tables
from footprint.report.textbook import claims
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.run import RunSpec

(SPEC,) = grid(regime=("full",))
PAIR = grid(regime=("full", "lora", "qlora"), checkpointing=("none", "block"))


def run(**columns: float) -> pd.Series:
    """The times of a run on a quiet machine, but for these columns."""
    return pd.Series(times(SPEC, 0.06) | columns)


def test_a_quiet_and_steady_run_has_a_time_and_how_far_it_may_be_off():
    time = reading.step_of(run())
    assert time.middle == pytest.approx(0.1)
    assert time.give == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"neighbour_load": 0.2}, "something else used the processors"),
        ({"upper_step_seconds": 0.2}, "its steps differ too much"),
    ],
)
def test_a_neighbour_and_unsteady_steps_withhold_a_time(columns, why):
    assert reading.step_of(run(**columns)) is None
    assert reading.disturbance(run(**columns)) == why
    assert reading.added(run(), run(**columns), recomputing=False) is None


def forwards(seconds: list[float], specs: list[RunSpec] = PAIR) -> pd.DataFrame:
    """Runs with these forward times, as the page reads them."""
    rows = [spec.axes() | times(spec, 0.06, forward=each) for spec, each in zip(specs, seconds, strict=True)]
    return reading.held_against_likes(pd.DataFrame(rows))


def test_runs_that_do_the_same_in_forward_tell_how_far_another_process_would_be_off():
    runs = forwards([0.05, 0.06, 0.05, 0.05, 0.05, 0.055])
    share = 0.0025 / 0.0525  # of three pairs 0.091, 0 and 0.048: the one in the middle
    assert runs["process_share"].to_numpy() == pytest.approx(share)
    first = runs.iloc[0]
    assert reading.step_of(first).give == pytest.approx((0.01 + share) * first["step_seconds"])
    assert how_far_off(runs, None).endswith("between processes that do the same: 4.8 % in the runs.")


def test_runs_that_have_no_like_tell_nothing_of_other_processes():
    runs = forwards([0.04, 0.08, 0.05], PAIR[::2])
    assert runs["process_share"].isna().all()
    assert reading.step_of(runs.iloc[0]).give == pytest.approx(0.01 * runs["step_seconds"].iloc[0])
    assert "no two runs here tell" in how_far_off(runs, None)


def test_a_run_whose_forward_is_out_of_line_with_its_likes_was_disturbed():
    three = grid(regime=("full", "lora"), checkpointing=CHECKPOINTING)
    runs = forwards([0.28, 0.48, 0.32, 0.05, 0.05, 0.055], three)
    why = "forward took longer or shorter than in runs that do the same"
    assert [reading.disturbance(run) for _, run in runs.iterrows()] == [None, why, None, None, None, None]
    assert runs["process_share"].to_numpy() == pytest.approx((0.02 / 0.30 + 0.0025 / 0.05) / 2)  # without that run


def test_of_two_runs_none_can_be_told_to_be_the_disturbed_one():
    runs = forwards([0.28, 0.48], PAIR[:2])
    assert all(reading.disturbance(run) is None for _, run in runs.iterrows())
    assert reading.added(runs.iloc[1], runs.iloc[0], recomputing=True) is None
    assert runs["process_share"].isna().all(), "nor how far processes differ that were not"


def test_what_was_not_recorded_withholds_nothing_and_gives_no_uncertainty():
    old = run(neighbour_load=nan, lower_step_seconds=nan, upper_step_seconds=nan)
    assert reading.step_of(old).give is None
    assert not reading.recorded(old.to_frame().T)
    assert reading.recorded(run().to_frame().T)


def test_a_change_reaches_from_the_best_to_the_worst_of_both_runs():
    change = reading.added(run(**times(SPEC, 0.09)), run(), recomputing=True)
    assert change.middle == pytest.approx(0.3)
    assert (change.lower, change.upper) == pytest.approx((1.3 * 0.99 / 1.01 - 1, 1.3 * 1.01 / 0.99 - 1))


@pytest.mark.parametrize("columns", [times(SPEC, 0.09, forward=0.05), times(SPEC, 0.04)], ids=["forward", "faster"])
def test_recomputing_touches_backward_alone_and_makes_it_no_faster(columns):
    assert reading.added(run(**columns), run(), recomputing=True) is None
    assert reading.added(run(**columns), run(), recomputing=False) is not None


def test_several_runs_have_a_range_even_where_theirs_was_not_recorded():
    several = [reading.Time(middle=middle) for middle in (0.2, 0.3, 0.25)]
    assert reading.typical([*several, None]) == reading.Time(middle=0.25, lower=0.2, upper=0.3)
    assert reading.typical([None]) is None


def test_disturbed_pairs_keep_their_bytes_in_every_table(tmp_path):
    runs = selection.load(write_results(tmp_path, PAIR))
    loaded = runs.assign(neighbour_load=0.5)
    for table in (tables.checkpointing, lambda rows, layers: tables.changes(rows)):
        quiet, disturbed = (table(rows, {}).shown for rows in (runs, loaded))
        assert set(disturbed["Step time"]) == {"disturbed"}
        bytes_only = [name for name in quiet if name not in ("Step time", "Timed")]
        assert disturbed[bytes_only].equals(quiet[bytes_only])
    assert reading.set_aside(effects.checkpointing_effects(loaded)) == (
        "The times of 3 of 3 pairs of runs are withheld, their bytes are not: something else used the processors (3)."
    )
    assert reading.set_aside(effects.checkpointing_effects(runs)) is None


def test_the_verdict_on_compute_does_not_hang_on_a_clock(tmp_path):
    runs = selection.load(write_results(tmp_path, PAIR))
    quiet, disturbed = (
        next(claim for claim in claims.claims(rows) if "~30 % more compute" in claim.quote)
        for rows in (runs, runs.assign(neighbour_load=0.5))
    )
    assert (quiet.verdict, quiet.found) == (disturbed.verdict, disturbed.found)
    assert "Step time here, which is not compute" in quiet.remark
    assert "Step time" not in disturbed.remark
