"""Many rehearsals on one card, for benchmarks and tests: one process imports everything and is forked for each run.

No driver survives a fork, but the stand-in does: there is no card that could lose its state. A run so takes a quarter
of a second. A new process would spend five importing.
"""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from footprint.errors import FootprintError
from footprint.jobs.pretended import interpreter
from footprint.jobs.runtime import VISIBLE, prepare_environment
from footprint.rehearsal.launch import environment
from footprint.spec.cards import Card, find
from footprint.spec.handover import parse_run, run_json
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

REFUSAL = "refusal"
"""Key of an answer that is the message of a FootprintError."""

ABORTED = "the run: needs what cannot be rehearsed, as is said above"

SOURCES = Path(__file__).resolve().parents[2]


def rehearse_each(specs: Sequence[RunSpec], training: TrainingSpec) -> Iterator[dict[str, object]]:
    """The rehearsed row of every spec on random tokens, in order; all specs name one card.

    Raises FootprintError where nothing can be rehearsed, RuntimeError where a run fails for another reason than memory.
    """
    return (answer["row"] for answer in _answers(_run, specs, training))


def totals_of_each(specs: Sequence[RunSpec], training: TrainingSpec) -> Iterator[list[tuple[str, int]]]:
    """As `rehearse_each`, but (phase, requested bytes) after every event of the first measured step of every spec.

    Of a run on several GPUs these are the first rank's.
    """
    return _answers(_totals, specs, training)


def _run(spec: RunSpec, training: TrainingSpec) -> dict[str, object]:
    """The row of a run, and (kind, name, bytes) of what was live at its peak, the largest first."""
    from footprint.jobs.stacks import carry_out
    from footprint.measure.tensors import named

    done = carry_out(spec, training)
    live = [(kind, name, size) for (kind, name), size in named(spec, done.live).most_common()]
    return {"row": done.row, "live": live}


def _totals(spec: RunSpec, training: TrainingSpec) -> list[tuple[str, int]]:
    from footprint.jobs.ranks import join
    from footprint.jobs.stacks import values_that_decide
    from footprint.measure.measurement import nothing, random_batches
    from footprint.measure.recorded_run import RecordedRun, phase_name
    from footprint.train.sharding import share_of

    if spec.gpus > 1:
        join(spec, 0, Path())
    run = RecordedRun(spec, training)
    with values_that_decide(spec):
        run.build(fill=nothing)
        run.record(list(share_of(0, spec, random_batches(spec, run.recorded_steps))))
    events = zip(run.trace.events, run.trace.live, strict=True)
    first = f"{training.warmup_steps}/"
    return [
        (phase_name(event.phase), total) for event, total in events if event.delta and event.phase.startswith(first)
    ]


def _answers(function: Callable, specs: Sequence[RunSpec], training: TrainingSpec) -> Iterator:
    """What `function`, one of this module, gives for every spec, each in a process with the card."""
    stacks = sorted({spec.stack for spec in specs})
    with Rehearsals(find(specs[0].card), function.__name__, *stacks) as server:
        for spec in specs:
            yield server.ask(run_json(spec, training))


class Rehearsals:
    """A process with a card that has imported what runs of some stacks need, and is forked for each."""

    def __init__(self, card: Card, function: str = "_run", *stacks: str) -> None:
        """Answers with what `function`, one of this module, gives for a run."""
        python = interpreter()
        prepare_environment("cuda")
        # CUDA sees one card: Trainer takes all it finds.
        told = os.environ | environment(card, python) | {"PYTHONPATH": str(SOURCES), VISIBLE: "0"}
        self._process = subprocess.Popen(
            [python, "-m", __name__, function, *stacks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=told,
        )

    def __enter__(self) -> "Rehearsals":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, run: str) -> object:
        """The answer for a run, given as JSON in one line.

        Raises FootprintError where the run cannot be honoured, RuntimeError where it fails.
        """
        self._process.stdin.write(run + "\n")
        self._process.stdin.flush()
        answered = self._process.stdout.readline()
        if not answered.strip():
            raise RuntimeError(f"the rehearsal of {run[:2000]} failed")
        answer = json.loads(answered)
        if REFUSAL in answer:
            raise FootprintError(answer[REFUSAL])
        return answer


def _serve(function: Callable[[str], object]) -> None:
    """Answer every run on standard input by `function`, called in a process of its own."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    import torch

    warnings.simplefilter("ignore")  # bitsandbytes says of every odd matrix that a kernel is slow, which does nothing
    torch.cuda._is_in_bad_fork = lambda: False
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            answer = json.dumps(_or_refusal(function, line)).encode() + b"\n"
            while answer:  # a pipe takes only so much at a time
                answer = answer[os.write(answers, answer) :]
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT:  # as the stand-in ends, with a sentence
            os.write(answers, json.dumps({REFUSAL: ABORTED}).encode() + b"\n")
        elif status:
            os.write(answers, b"\n")


def _or_refusal(function: Callable[[str], object], line: str) -> object:
    try:
        return function(line)
    except FootprintError as error:
        return {REFUSAL: str(error)}


if __name__ == "__main__":
    prepare_environment("cuda")
    import footprint.jobs.stacks  # which imports all that a run needs, once for every fork

    if "transformers" in sys.argv[2:]:
        import footprint.measure.recorded_trainer  # noqa: F401

    _serve(lambda line: globals()[sys.argv[1]](*parse_run(line)))
