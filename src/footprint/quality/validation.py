"""How well a model predicts text it was not trained on, in bits per byte: a token here is a byte."""

from collections.abc import Iterable
from contextlib import nullcontext
from math import log

import numpy as np
import torch
from torch import Tensor

from footprint.spec.precision import PRECISIONS
from footprint.spec.run import RunSpec
from footprint.text.corpus import Pair
from footprint.train.minigpt import MiniGPT


def tensors(pairs: Iterable[Pair]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of arrays as pairs of tensors over the same memory."""
    return [(torch.from_numpy(tokens), torch.from_numpy(targets)) for tokens, targets in pairs]


def bits_per_byte(model: MiniGPT, pairs: Iterable[tuple[Tensor, Tensor]], spec: RunSpec, *, half: torch.dtype) -> float:
    """Mean cross-entropy over all targets of `pairs`, in the precision the run trains in.

    The model stays in training mode, which without dropout computes the same: in evaluation mode bitsandbytes
    would repack its weights for another kernel.
    """
    losses, targets_seen = [], []
    autocast = PRECISIONS[spec.precision].autocast
    with torch.no_grad(), torch.autocast(spec.device, half) if autocast else nullcontext():
        for tokens, targets in pairs:
            losses.append(model(tokens.to(spec.device), targets.to(spec.device)).item())
            targets_seen.append(targets.numel())
    return in_bits(float(np.average(losses, weights=targets_seen)))


def in_bits(nats: float) -> float:
    """Bits of as many nats."""
    return nats / log(2)
