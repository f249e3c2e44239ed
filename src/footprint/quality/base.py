"""The base every fine-tuning starts from: pretrained once, kept as safetensors, resumed where it was interrupted."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from footprint.errors import FootprintError
from footprint.files import ANEW_AS_TARGET, AS_TARGET, replacing, unreadable
from footprint.quality.schedule import warmup_then_cosine
from footprint.quality.validation import tensors
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.text import corpus
from footprint.train.loop import train
from footprint.train.minigpt import MiniGPT
from footprint.train.optimizers import Stepper, build
from footprint.train.regimes import HALF_TYPES, prepare, trainable

CHECKPOINTS = 10
"""A pretraining that is killed loses at most one part of this many."""


def pretrain(
    spec: RunSpec, training: TrainingSpec, text: np.ndarray, *, steps: int, learning_rate: float, output: Path
) -> None:
    """Pretrain a model on `text` (uint8, bytes) and write its weights (fp32) with what it is to `output`.

    An interrupted pretraining goes on from `<output>.checkpoint` and ends with the same bits.
    Raises FootprintError when the loss stops being a number.
    """
    torch.set_num_threads(training.threads)
    half = HALF_TYPES[training.half]
    model = prepare(spec, half=half, seed=training.seed)
    checkpoint = _Checkpoint(output.with_suffix(".checkpoint"), {"steps": steps, "learning_rate": learning_rate})
    done = checkpoint.steps_done()
    schedule = warmup_then_cosine(steps, first=done)
    stepper = build(spec, trainable(model), rate=learning_rate, schedule=schedule)
    if done:
        checkpoint.restore(model, stepper)
    pairs = corpus.stream(
        text, batch=spec.batch, seq=spec.seq, steps=steps, seed=training.seed, vocab=spec.model.vocab, first=done
    )
    every = -(-steps // CHECKPOINTS)
    while done < steps:
        results = train(model, stepper, tensors(islice(pairs, every)), spec, half=half)
        done += len(results)
        _require_number(results[-1].loss, done)
        checkpoint.write(model, stepper, done)
    told = {"declared": output.stem, "model": asdict(spec.model), "steps": steps, "learning_rate": learning_rate}
    _save(output, dict(_weights(model)), told)
    checkpoint.path.unlink()


class Base:
    """A pretrained model on disk. Raises FootprintError where the file is not one, or not of the model asked for."""

    def __init__(self, path: Path, model: ModelSpec) -> None:
        try:
            self._file = safe_open(path, "pt")
            told = _told(self._file)
            declared, shape = told["declared"], told["model"]
            with path.open("rb") as file:
                self.name = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                """The first digits of the file's sha256."""
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise unreadable(path, "base", error, AS_TARGET) from None
        if declared != path.stem:
            raise FootprintError(f"{path}: was pretrained as {declared}, not as its name says; {ANEW_AS_TARGET}")
        if shape != asdict(model):
            raise FootprintError(f"{path}: is the base of another model than {model.name}; use one with its sizes")

    def fill(self, parameter: Tensor, name: str) -> None:
        """Copy the weights called `name` into a parameter of any dtype and device."""
        with torch.no_grad():
            parameter.copy_(self.weight(name))

    def weight(self, name: str) -> Tensor:
        """The weights called `name`, fp32."""
        return self._file.get_tensor(name)


class _Checkpoint:
    """Weights and optimizer state between two parts of a pretraining."""

    def __init__(self, path: Path, declared: dict[str, float]) -> None:
        self.path, self._declared = path, declared

    def steps_done(self) -> int:
        """Steps behind the checkpoint; 0 where there is none, or one of another declaration."""
        try:
            told = _told(safe_open(self.path, "pt"))
        except (OSError, SafetensorError):
            return 0
        return told["done"] if told["declared"] == self._declared else 0

    def restore(self, model: MiniGPT, stepper: Stepper) -> None:
        """Put weights and state back; the step count of the schedule is the caller's."""
        file = safe_open(self.path, "pt")
        states: dict[int, dict[str, Tensor]] = {}
        for name in file.keys():  # noqa: SIM118 - not a mapping
            kind, _, rest = name.partition("/")
            if kind == "state":
                number, _, key = rest.partition("/")
                states.setdefault(int(number), {})[key] = file.get_tensor(name)
        groups = stepper.optimizer.state_dict()["param_groups"]
        stepper.optimizer.load_state_dict({"state": states, "param_groups": groups})
        with torch.no_grad():
            for name, parameter in _weights(model):
                parameter.copy_(file.get_tensor(f"weights/{name}"))

    def write(self, model: MiniGPT, stepper: Stepper, done: int) -> None:
        """Replace the checkpoint by one of now, whole or not at all."""
        contents = {f"weights/{name}": weight for name, weight in _weights(model)}
        for number, state in stepper.optimizer.state_dict()["state"].items():
            contents |= {f"state/{number}/{key}": value for key, value in state.items()}
        _save(self.path, contents, {"declared": self._declared, "done": done})


def _weights(model: MiniGPT) -> Iterator[tuple[str, Tensor]]:
    """Every parameter under every name it has: a tied table has two."""
    return model.named_parameters(remove_duplicate=False)


def _told(file: safe_open) -> dict:
    """What `_save` was told of the contents."""
    return json.loads(file.metadata()["footprint"])


def _save(path: Path, contents: dict[str, Tensor], told: dict[str, object]) -> None:
    # Clones: safetensors refuses two names for one memory.
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in contents.items()}
    with replacing(path) as file:
        # One entry: safetensors writes several in random order, and equal bases should be equal files.
        file.write(save(copies, {"footprint": json.dumps(told, sort_keys=True)}))


def _require_number(loss: float, step: int) -> None:
    if not isfinite(loss):
        raise FootprintError(
            f"quality.pretraining.learning_rate: the loss is {loss} after {step} steps; use a smaller rate"
        )
