"""The trace reader on traces small enough to add up by hand, and the CPU recorder on programs whose bytes are known."""

import gc

import pytest
import torch
from tiny import HALF, mem_tracker_peak, prepared, run

from footprint.measure.measurement import random_batches
from footprint.measure.trace import cuda
from footprint.measure.trace.cpu import CpuRecorder
from footprint.measure.trace.reader import Event, Labels, Trace, TraceError
from footprint.spec.columns import PHASES
from footprint.spec.precision import FULL
from footprint.train.loop import train
from footprint.train.optimizers import build
from footprint.train.regimes import trainable

KIB = 1024
BATCHES = random_batches(run(), 2)


def events(*lines):
    """Events from (phase, address, delta)."""
    return [Event(*line) for line in lines]


HAND = events(
    ("build", 1, 100),
    ("1/forward", 2, 50),
    ("1/forward", 3, 30),
    ("1/forward", 3, -30),
    ("1/backward", 3, 70),
    ("1/backward", 2, -50),
    ("1/step", 4, 5),
    ("1/step", 4, -5),
)
"""Live bytes: 100, 150, 180, 150, 220, 170, 175, 170."""


def test_the_peak_of_a_phase_is_its_highest_point():
    trace = Trace(HAND)
    assert trace.live == [100, 150, 180, 150, 220, 170, 175, 170]
    assert [trace.peak(f"1/{phase}").total for phase in PHASES] == [180, 220, 175]


def test_what_a_phase_begins_with_counts_in_its_peak():
    trace = Trace(events(("build", 1, 100), ("1/forward", 1, -100), ("1/forward", 2, 10)))
    assert trace.peak("1/forward").total == 100


def test_buckets_follow_the_labels_and_sum_to_the_peak():
    labels = [Labels("1/forward", {1: "frozen_base"}), Labels("1/backward", {3: "gradients"})]
    peak = Trace(HAND, labels).peak("1/backward")
    assert peak.buckets == {"weights": 100, "gradients": 70, "optimizer": 0, "activations": 50}
    assert sum(peak.kinds.values()) == peak.total


def test_a_reused_address_is_a_new_block_with_a_label_of_its_own():
    trace = Trace(
        events(
            ("1/forward", 7, 64),
            ("1/forward", 7, -64),
            ("1/backward", 7, 64),
            ("1/backward", 8, 1),
            ("1/step", 8, -1),
        ),
        [Labels("1/backward", {7: "gradients"})],
    )
    assert trace.peak("1/forward").buckets["activations"] == 64
    assert trace.peak("1/backward").buckets == {"weights": 0, "gradients": 64, "optimizer": 0, "activations": 1}


def test_a_label_names_what_lives_when_its_phase_ends_not_what_died_within_it():
    trace = Trace(
        events(("1/backward", 7, 64), ("1/backward", 7, -64), ("1/backward", 7, 32)),
        [Labels("1/backward", {7: "gradients"})],
    )
    assert trace.peak("1/backward").kinds["gradients"] == 0
    assert trace.kinds(3)["gradients"] == 32


def test_the_first_allocation_past_a_limit_is_the_one_that_would_not_fit():
    trace = Trace(HAND)
    assert trace.first_over(179) == HAND[2]
    assert trace.first_over(180) == HAND[4]
    assert trace.first_over(220) is None


@pytest.mark.parametrize(
    ("lines", "labels", "complaint"),
    [
        ([("build", 1, 8), ("build", 1, 8)], [], "allocated twice"),
        ([("build", 1, 8), ("build", 1, -8), ("build", 1, -8)], [], "did not hold"),
        ([("build", 1, -8)], [], "did not hold"),
        ([("build", 1, 8), ("build", 1, -4)], [], "did not hold"),
        ([("build", 1, 8)], [Labels("build", {2: "master"})], "master tensor at address 0x2 was never allocated"),
        ([("build", 1, 8)], [Labels("1/forward", {1: "master"})], "no event in phase '1/forward'"),
        ([("build", 1, 8)], [Labels("build", {1: "scratch"})], "'scratch' is not a kind"),
    ],
)
def test_a_trace_that_contradicts_itself_gives_no_number(lines, labels, complaint):
    with pytest.raises(TraceError, match=complaint):
        Trace(events(*lines), labels)


def test_a_phase_that_never_happened_has_no_peak():
    with pytest.raises(TraceError, match="no event in phase '2/forward'"):
        Trace(HAND).peak("2/forward")


@pytest.fixture
def recorder():
    gc.collect()  # garbage of an earlier test must not be freed within the recording
    return CpuRecorder()


def test_the_recorder_gets_a_program_computed_by_hand_to_the_byte(recorder):
    recorder.start()
    with recorder.phase("build"):
        weight = torch.zeros(64, KIB)  # 256 KiB
    with recorder.phase("0/forward"):
        kept = weight.half()  # 128 KiB
        passing = torch.ones(3, 5, 7, dtype=torch.int64)  # 840 B, gone before the next line
        del passing
        odd = torch.zeros(17, dtype=torch.uint8)  # 17 B
    with recorder.phase("0/backward"):
        gradient = weight + weight  # 256 KiB
        kept.resize_(0)  # shrinks no storage
        del kept, odd
    trace = Trace(recorder.stop(), [Labels("0/backward", {gradient.untyped_storage().data_ptr(): "gradients"})])
    assert trace.peak("0/forward").total == (256 + 128) * KIB + 840
    assert trace.peak("0/backward").total == (256 + 128 + 256) * KIB + 17
    assert trace.peak("0/backward").buckets["gradients"] == 256 * KIB
    assert trace.live[-1] == (256 + 256) * KIB


def test_the_recorder_gets_the_lifetimes_of_autograd_to_the_byte(recorder):
    """y = relu(x @ w), y.sum(): relu saves its result, the product its operands; both gradients end beside them."""
    recorder.start()
    with recorder.phase("build"):
        x = torch.ones(128, 64, requires_grad=True)  # 32 KiB
        w = torch.ones(64, 256, requires_grad=True)  # 64 KiB
    with recorder.phase("0/forward"):
        loss = (x @ w).relu().sum()  # product 128 KiB, relu 128 KiB, loss 4 B; the product dies with the expression
    with recorder.phase("0/backward"):
        loss.backward()
    trace = Trace(recorder.stop())
    at_rest, result = 96 * KIB, 128 * KIB
    assert trace.peak("0/forward").total == at_rest + 2 * result
    after_forward = at_rest + result + FULL
    # The gradient of the loss and that of the product; relu's result is let go before x and w get theirs.
    assert trace.peak("0/backward").total == after_forward + FULL + result
    assert trace.live[-1] == 2 * at_rest + FULL


def recorded(spec, recorder):
    """Peak of two steps by the recorder."""
    recorder.start()
    with recorder.phase("build"):
        model = prepared(spec)
        stepper = build(spec, trainable(model))
    train(model, stepper, BATCHES, spec, half=HALF, phase=lambda step, name: recorder.phase(f"{step}/{name}"))
    trace = Trace(recorder.stop())
    return [trace.peak(f"1/{name}").total for name in PHASES]


@pytest.mark.parametrize("checkpointing", ["none", "block"])
def test_recorder_and_mem_tracker_agree_where_no_kernel_needs_scratch(recorder, checkpointing):
    spec = run("full", optimizer="adamw-fused", checkpointing=checkpointing)
    assert mem_tracker_peak(spec) == max(recorded(spec, recorder))


def test_in_the_step_mem_tracker_misses_only_a_python_number_made_a_tensor(recorder):
    spec = run("full", optimizer="adamw")
    peaks = recorded(spec, recorder)
    assert max(peaks) == peaks[-1]
    assert mem_tracker_peak(spec) == max(peaks) - 12  # as a double, and cast to fp32


MARK = [
    {"action": action, "addr": 0x9000, "size": size}
    for size in cuda.MARK
    for action in ("alloc", "free_requested", "free_completed")
]

HISTORY = [
    *MARK,
    {"action": "segment_alloc", "addr": 0x7000, "size": 2 << 20},
    {"action": "alloc", "addr": 0x7000, "size": 400},
    {"action": "alloc", "addr": 0x7200, "size": 0},
    *MARK,
    {"action": "alloc", "addr": 0x7600, "size": 8},
    *MARK,
    {"action": "alloc", "addr": 0x7400, "size": 600},
    {"action": "alloc", "addr": 0x7800, "size": cuda.MARK[0]},
    {"action": "free_requested", "addr": 0x7800, "size": cuda.MARK[0]},
    {"action": "free_requested", "addr": 0x7400, "size": 600},
    {"action": "free_completed", "addr": 0x7400, "size": 600},
    {"action": "snapshot", "addr": 0, "size": 0},
    *MARK,
    *MARK,
    {"action": "alloc", "addr": 0x7400, "size": 512},
    *MARK,
    *MARK,
    *MARK,
    {"action": "free_requested", "addr": 0x7000, "size": 400},
]
"""In the form of `torch.cuda.memory._snapshot()["device_traces"][device]`."""

SPANS = ["build", "0/forward", "0/backward", "0/step"]


def test_the_cuda_history_becomes_events_between_the_marks_of_its_phases():
    assert list(cuda.events(HISTORY, SPANS)) == events(
        ("build", 0, 0),
        ("build", 0x7000, 400),
        ("between", 0x7600, 8),
        ("0/forward", 0, 0),
        ("0/forward", 0x7400, 600),
        ("0/forward", 0x7800, cuda.MARK[0]),
        ("0/forward", 0x7800, -cuda.MARK[0]),
        ("0/forward", 0x7400, -600),
        ("0/backward", 0, 0),
        ("0/backward", 0x7400, 512),
        ("0/step", 0, 0),
        ("between", 0x7000, -400),
    )


@pytest.mark.parametrize("phases", [SPANS[:3], [*SPANS, "1/forward"]], ids=["too few", "too many"])
def test_a_history_whose_marks_are_not_those_of_the_phases_is_refused(phases):
    with pytest.raises(TraceError, match="marks than phases have ends"):
        list(cuda.events(HISTORY, phases))


def test_a_cuda_history_is_read_by_the_same_trace():
    labels = [Labels("0/step", {0x7000: "optimizer"})]
    trace = Trace(list(cuda.events(HISTORY, SPANS)), labels)
    assert trace.peak("0/forward").total == 1008 + cuda.MARK[0]
    assert trace.peak("0/backward").total == 920
    step = trace.peak("0/step")
    assert (step.total, step.kinds["optimizer"]) == (920, 400), "a phase in which nothing is allocated has a peak too"
    assert [phase for phase, _ in trace.timeline(SPANS[1:])] == [event.phase for event in trace.events[3:11]]
