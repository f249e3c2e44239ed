"""What a stored timeline keeps of a step: its peaks, its phases, and places that two records of it share."""

from hypothesis import given
from hypothesis import strategies as st

from footprint.spec.columns import PHASES
from footprint.spec.timeline import Point, read_timeline, sampled, write_timeline


def points(phase: str, totals: list[int]) -> list[Point]:
    return [Point(phase, 0, 0, 0, total) for total in totals]


TOTALS = st.lists(st.integers(0, 10**6), min_size=1, max_size=60)


@given(TOTALS, TOTALS, TOTALS, st.integers(1, 50))
def test_every_phase_has_as_many_samples_and_keeps_its_peak(forward, backward, step, samples):
    steps = dict(zip(PHASES, (forward, backward, step), strict=True))
    found = sampled([point for phase, totals in steps.items() for point in points(phase, totals)], samples)
    assert [point.phase for point in found] == [phase for phase in PHASES for _ in range(samples)]
    for phase, totals in steps.items():
        assert max(point.total for point in found if point.phase == phase) == max(totals)


@given(TOTALS, st.integers(1, 50), st.data())
def test_events_that_move_nothing_change_no_sample(totals, samples, data):
    """One record of a step may have more events than another."""
    repeated = [total for total in totals for _ in range(data.draw(st.integers(1, 3)))]
    assert sampled(points("backward", repeated), samples) == sampled(points("backward", totals), samples)


def test_a_large_tensor_takes_the_room_of_its_bytes():
    found = sampled(points("forward", [0, 10, 100, 110]), 11)
    assert [point.total for point in found] == [0, 10, *[10] * 8, 110]


def test_what_happens_between_phases_is_left_out():
    assert sampled(points("between", [5, 6]) + points("step", [1])) == points("step", [1]) * 400


def test_a_timeline_survives_its_file(tmp_path):
    kept = sampled(points("forward", [0, 3, 2]), 5)
    write_timeline(tmp_path / "step.csv", kept)
    assert read_timeline(tmp_path / "step.csv") == kept
