"""What storing a base in fewer bits costs before any fine-tuning: where QLoRA starts."""

from collections.abc import Iterator

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor

from footprint.measure.kinds import held
from footprint.measure.provenance import provenance
from footprint.measure.recorded_run import RECORDERS
from footprint.quality.base import Base
from footprint.quality.validation import bits_per_byte, tensors
from footprint.spec.columns import BASES
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.text import corpus
from footprint.train.minigpt import MiniGPT
from footprint.train.regimes import HALF_TYPES, prepare


def storages(half: str) -> dict[str, dict[str, object]]:
    """The axes that store, and compute with, a base in each form; an adapter that has learnt nothing adds nothing."""
    quantized = {"regime": "qlora", "rank": 1, "targets": "qv", "precision": "bf16"}
    return {
        "fp32": {"regime": "full", "precision": "fp32"},
        half: {"regime": "full", "precision": "bf16"},
        "nf4": quantized | {"quantization": "nf4"},
        "nf4-double": quantized | {"quantization": "nf4-double"},
    }


def starting_points(
    pretrained: RunSpec, training: TrainingSpec, base: Base, texts: dict[str, np.ndarray], *, sequences: int
) -> Iterator[dict[str, object]]:
    """A row of `bases.csv` for each form the base that `pretrained` made is stored in.

    `texts` are the held-out parts of what it was pretrained on (`pretraining`) and of what it will be fine-tuned on
    (`finetuning`), uint8 (bytes,); of each, `sequences` as long as those of the pretraining are read.
    """
    torch.set_num_threads(training.threads)
    half, model, device = HALF_TYPES[training.half], pretrained.model, pretrained.device
    shape = {"batch": pretrained.batch, "seq": pretrained.seq}
    cut = shape | {"sequences": sequences, "vocab": model.vocab}
    pairs = {name: tensors(corpus.held_out(text, **cut)) for name, text in texts.items()}
    common = provenance() | RECORDERS[device]().device()
    for storage, axes in storages(training.half).items():
        spec = RunSpec(model=model, device=device, **shape, **axes)
        stored = prepare(spec, half=half, seed=training.seed, fill=base.fill)
        losses = {f"{name}_bits_per_byte": bits_per_byte(stored, pairs[name], spec, half=half) for name in pairs}
        row = common | losses | {"model": model.name, "storage": storage, "base": base.name}
        row |= {"weights_bytes": _weights_bytes(stored), "weight_error": _weight_error(stored, base)}
        yield {name: row[name] for name in BASES}


def _weights_bytes(model: MiniGPT) -> int:
    """Bytes of all weights but the adapters', quantization state included."""
    own = {id(parameter) for name, parameter in model.named_parameters() if _own(name)}
    parts = (part for each in held(model) if id(each.parameter) in own for part in each.parts)
    return sum(part.numel() * part.element_size() for part in (*parts, *model.buffers()))


def _weight_error(model: MiniGPT, base: Base) -> float:
    """|W - W'| / |W| (Frobenius) over the Linears in blocks, W in fp32."""
    difference = size = 0.0
    for name, parameter in model.named_parameters():
        if not (_own(name) and name.startswith("blocks.") and parameter.dim() == 2):
            continue
        exact = base.weight(name.replace(".base_layer", "")).double()
        difference += (exact - _values(parameter).double().cpu()).square().sum().item()
        size += exact.square().sum().item()
    return (difference / size) ** 0.5


def _own(name: str) -> bool:
    return ".lora_" not in name


def _values(parameter: Tensor) -> Tensor:
    state = getattr(parameter, "quant_state", None)
    return parameter.detach() if state is None else dequantize_4bit(parameter.data, state)
