"""Ours against what a Hugging Face user writes: the same model by transformers, PEFT, bitsandbytes and a plain loop.

python benchmarks/against_transformers.py [--device cpu] [--model minigpt-85m] [--precisions amp bf16] [--rounds 9]

Both sides start from the same weights, see the same batch and train as many parameters: GPT-2 computes q, k and v in
one fused Linear, whose adapter gets rank 12 where ours have 8 each. (With rank 8 there too, as a user would write it,
it is the peak alone that is compared: `as_written`.) Peaks come from the project's recorder, each side in a fresh
process; times from a third process without it, where the sides take turns. Ratios are ours over theirs; a time ratio is
the median over the rounds, with its 95% confidence interval, and bytes have no noise. Which tensors make the difference
goes to against_transformers_tensors.csv. Exit status 1 when ours is larger, or slower by more than the noise: when the
whole interval is above 1.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from peers.huggingface import HALF, as_gpt2, load, plain_loop, user_optimizer
from peers.sides import batches_of, record_ours, record_theirs
from peers.tensors import differences
from torch import Tensor, nn

from footprint.errors import user_errors
from footprint.jobs.fresh import Row, each_fresh
from footprint.measure.measurement import require_device
from footprint.measure.provenance import package_version
from footprint.measure.recorded_run import RecordedRun
from footprint.spec.presets import PRESETS
from footprint.spec.run import DEVICES, REGIMES, RunSpec
from footprint.spec.training import TrainingSpec
from footprint.spec.units import format_bytes
from footprint.tables.rows import write_table
from footprint.train.loop import train
from footprint.train.optimizers import build
from footprint.train.regimes import prepare, trainable

OUTPUT = Path("results/bench/against_transformers.csv")
TENSORS = OUTPUT.with_stem(f"{OUTPUT.stem}_tensors")
TARGET = 1.0
"""Ours over theirs, of the seconds of a step and of the peak bytes."""

SIDES = ("ours", "theirs")
AS_WRITTEN = "theirs as written"
"""Theirs with one rank for every adapter."""
SAME_LOSS = 0.01
"""Relative difference of the first loss above which the sides would not be training the same network."""
SHORTEST_TURN = 0.5
"""Seconds for which a side runs before the other takes over; at least one step."""


def record(side: str, folder: str, spec: RunSpec, training: TrainingSpec) -> Row:
    """Peaks, parameters, losses and what was live at the peak of one side; for a fresh process."""
    if side == "ours":
        return record_ours(spec, training)
    load_model = partial(load, folder, same_parameters=side != AS_WRITTEN)
    return record_theirs(partial(_user_program, load_model), spec, training)


def _user_program(load_model: Callable[[RunSpec], nn.Module], run: RecordedRun, batches: list[Tensor]) -> list[float]:
    """The user's program in the phases of `run`; the loss of every step."""
    with run.phase("build"):
        run.model = load_model(run.spec)
        run.begin(run.model)
        run.stepper = user_optimizer(run.model, run.spec)

    def phase(step: int, name: str) -> AbstractContextManager:
        return run.phase(f"{step}/{name}", labelled=True)

    return plain_loop(run.model, run.stepper.optimizer, batches, run.spec, phase)


def race(rounds: int, folder: str, spec: RunSpec, training: TrainingSpec) -> Row:
    """Seconds per step of every round and side, without the recorder; for a fresh process.

    The sides take turns, and who goes first changes every round, so that a machine that slows down slows both.
    """
    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    [(tokens, targets)] = batches_of(spec, 1)
    ours = prepare(spec, half=HALF, seed=training.seed)
    theirs = load(folder, spec)
    stepper, optimizer = build(spec, trainable(ours)), user_optimizer(theirs, spec).optimizer
    run: dict[str, Callable[[int], object]] = {
        "ours": lambda steps: train(ours, stepper, [(tokens, targets)] * steps, spec, half=HALF),
        "theirs": lambda steps: plain_loop(theirs, optimizer, [tokens] * steps, spec),
    }
    for side in SIDES:
        run[side](1)
    steps = math.ceil(SHORTEST_TURN / max(_seconds(run[side], 1) for side in SIDES))
    seconds = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES[:: 1 if number % 2 else -1]:
            seconds[side].append(_seconds(run[side], steps) / steps)
    return seconds


def _seconds(run: Callable[[int], object], steps: int) -> float:
    began = time.perf_counter()
    run(steps)  # ends with the loss as a Python number, so a device has nothing left to do
    return time.perf_counter() - began


def median_between(ratios: list[float]) -> tuple[float, float, float]:
    """Median, and the two of the values between which the true median lies with 95% confidence or more.

    The k-th smallest and k-th largest miss it when fewer than k tosses of a coin come up heads, or tails, so this holds
    for any distribution of the noise (Thompson 1936). Fewer than six values cannot be that sure and give their range.
    """
    ordered, tosses = sorted(ratios), len(ratios)
    misses, k = 2, 1  # of 2^tosses outcomes, those in which the k-th smallest or the k-th largest misses
    while misses + 2 * math.comb(tosses, k) <= 0.05 * 2**tosses:
        misses, k = misses + 2 * math.comb(tosses, k), k + 1
    return statistics.median(ordered), ordered[k - 1], ordered[-k]


def compare(spec: RunSpec, training: TrainingSpec, folder: str, rounds: int) -> tuple[Row, list[Row]]:
    """The row of one regime and precision, and its tensors that differ."""
    ours, theirs = (_fresh(partial(record, side, folder), spec, training) for side in SIDES)
    seconds = _fresh(partial(race, rounds, folder), spec, training)
    if abs(ours["loss_first"] / theirs["loss_first"] - 1) > SAME_LOSS:
        raise SystemExit(f"error: {spec.regime} {spec.precision}: the two sides do not train the same network")
    ratio, low, high = median_between([a / b for a, b in zip(*seconds.values(), strict=True)])
    row = {"regime": spec.regime, "precision": spec.precision, "device": spec.device, "rounds": rounds}
    row |= {"step_ratio": ratio, "step_ratio_low": low, "step_ratio_high": high}
    row |= {"peak_ratio": ours["peak_bytes"] / theirs["peak_bytes"]}
    written = theirs if spec.regime == "full" else _fresh(partial(record, AS_WRITTEN, folder), spec, training)
    row |= {"peak_ratio_as_written": ours["peak_bytes"] / written["peak_bytes"]}
    row |= {f"as_written_{name}": written[name] for name in ("peak_bytes", "trainable_parameters")}
    for side, measured in zip(SIDES, (ours, theirs), strict=True):
        row[f"{side}_step_seconds"] = statistics.median(seconds[side])
        wanted = ("peak_bytes", "peak_phase", "trainable_parameters", "total_parameters", "loss_first")
        row |= {f"{side}_{name}": measured[name] for name in wanted}
    row |= {f"{name}_version": package_version(name) for name in ("torch", "transformers", "peft", "bitsandbytes")}
    return row, list(differences(spec, ours["groups"], theirs["groups"]))


def _fresh(function: Callable[[RunSpec, TrainingSpec], Row], spec: RunSpec, training: TrainingSpec) -> Row:
    if spec.device == "cpu":
        return next(each_fresh(function, [spec], training))
    # bitsandbytes starts CUDA when it is imported, and a process that has started CUDA cannot fork.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(function, spec, training).result()


def report(row: Row, tensors: list[Row], shown: int = 4) -> None:
    """One line for the ratios, then the tensors that make most of the difference of the peaks."""
    seconds = [row[f"{side}_step_seconds"] for side in SIDES]
    peaks = [f"{format_bytes(row[f'{side}_peak_bytes'])} in {row[f'{side}_peak_phase']}" for side in SIDES]
    print(
        f"{row['regime']} {row['precision']}: "
        f"step {row['step_ratio']:.3f} ({row['step_ratio_low']:.3f} to {row['step_ratio_high']:.3f}) of theirs, "
        f"{seconds[0]:.2f} s / {seconds[1]:.2f} s; "
        f"peak {row['peak_ratio']:.4f} ({row['peak_ratio_as_written']:.4f} as written), {peaks[0]} / {peaks[1]}; "
        f"trains {row['ours_trainable_parameters']:,} ({row['as_written_trainable_parameters']:,} as written)",
        flush=True,
    )
    for tensor in tensors[:shown]:
        more = tensor["ours_minus_theirs_bytes"]
        print(
            f"    {'+' if more > 0 else '-'}{format_bytes(abs(more))} {tensor['kind']}, {tensor['tensor']}: "
            f"{format_bytes(tensor['ours_bytes'])} / {format_bytes(tensor['theirs_bytes'])}"
        )


def main() -> int:
    """Compare every regime and precision, print ratios and reasons; 1 when ours is slower or larger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--model", choices=[n for n, m in PRESETS.items() if m.block == "gpt"], default="minigpt-85m")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=REGIMES)
    parser.add_argument("--precisions", nargs="+", choices=("amp", "bf16", "fp32"), default=("amp", "bf16"))
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side against the clock")
    arguments = parser.parse_args()
    with user_errors():
        require_device(arguments.device)
    training, model = TrainingSpec(measured_steps=1), PRESETS[arguments.model]
    rows, tensors = [], []
    with tempfile.TemporaryDirectory() as folder:
        whole = prepare(RunSpec(model=model, regime="full", precision="fp32"), half=HALF, seed=training.seed)
        as_gpt2(whole).save_pretrained(folder)
        del whole
        for precision in arguments.precisions:
            for regime in arguments.regimes:
                spec = RunSpec(model=model, regime=regime, precision=precision, device=arguments.device)
                row, differing = compare(spec, training, folder, arguments.rounds)
                report(row, differing)
                rows, tensors = [*rows, row], [*tensors, *differing]
    write_table(OUTPUT, pd.DataFrame(rows))
    write_table(TENSORS, pd.DataFrame(tensors))
    missed = [r for r in rows if r["step_ratio_low"] > TARGET or r["peak_ratio"] > TARGET]
    print(f"{len(missed)} of {len(rows)} slower or larger than theirs (target {TARGET}) -> {OUTPUT}, {TENSORS}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
