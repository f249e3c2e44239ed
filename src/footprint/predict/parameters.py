"""Every parameter of a run, and the bytes of weights, gradients and optimizer state that follow from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from footprint.precision import HALF, PRECISIONS
from footprint.spec import NF4_BLOCK, ModelSpec, RunSpec

STEP_COUNTER = 4
"""AdamW keeps its step count as one fp32 scalar per stepped tensor."""

CODE_BOOK = 16 * 4
"""The sixteen NF4 levels in fp32; bitsandbytes keeps one table per quantized matrix."""

NESTED_BLOCK, NESTED_CODE_BOOK, NESTED_OFFSET = 256, 256 * 4, 4
"""Double quantization: one fp32 scale per 256 absmax bytes, a table of 256 fp32 levels, one fp32 offset."""


NF4_TABLES, NESTED_TABLE = 15 * 4 + 16 * 8 + 16 * 4, 256 * 4
"""What bitsandbytes keeps for the process once it has quantized: NF4's bounds (fp32), their order (int64) and levels
(fp32); with double quantization the fp32 levels of the 8-bit code as well."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """`count` tensors of `elements` elements each."""

    name: str
    elements: int
    count: int
    trained: bool
    quantized: bool = False
    adapter: bool = False


def parameters(spec: RunSpec) -> Iterator[Parameter]:
    """Every parameter of the model and its adapters."""
    model, full = spec.model, spec.regime == "full"
    for name, elements, count in _dense(model):
        yield Parameter(name, elements, count, full)
    for name, (d_in, d_out) in model.linears.items():
        yield Parameter(name, d_in * d_out, model.layers, full, quantized=spec.regime == "qlora")
        if model.biases:
            yield Parameter(f"{name} bias", d_out, model.layers, full)
    for name in model.adapted(spec.targets):
        d_in, d_out = model.linears[name]
        yield Parameter(f"{name} A", d_in * spec.rank, model.layers, True, adapter=True)
        yield Parameter(f"{name} B", d_out * spec.rank, model.layers, True, adapter=True)


def _dense(model: ModelSpec) -> Iterator[tuple[str, int, int]]:
    """Tensors outside the blocks' Linears, never quantized: (name, elements, count)."""
    yield "tokens", model.vocab * model.width, 1
    if not model.tied_head:
        yield "head", model.vocab * model.width, 1
    norms = 2 * model.layers + 1
    yield "norm weight", model.width, norms
    if model.block == "gpt":
        yield "positions", model.context * model.width, 1
        yield "norm bias", model.width, norms


def parameter_count(model: ModelSpec) -> int:
    """Parameters of the bare model."""
    return sum(p.elements * p.count for p in parameters(RunSpec(model=model, regime="full", batch=1, seq=1)))


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes that are live through every step, and those that gradients add."""

    trainable: int
    total: int
    frozen_base: int
    adapter: int
    trained_base: int
    master: int
    gradients: int
    optimizer: int
    activations: int
    """Tables a library keeps for the process, which no tensor of the model refers to."""
    stepped: int
    """Elements that the optimizer steps."""
    largest_stepped: int
    """Elements of the largest tensor among them."""

    @property
    def weights(self) -> int:
        """The weights bucket."""
        return self.frozen_base + self.adapter + self.trained_base + self.master


def resident(spec: RunSpec) -> Resident:
    """Bytes of weights, gradients and AdamW state of a run, exact to the byte."""
    precision = PRECISIONS[spec.precision]
    everything = list(parameters(spec))
    trained = [p for p in everything if p.trained]
    frozen = [p for p in everything if not p.trained]
    elements = sum(p.elements * p.count for p in trained)
    adapters = sum(p.elements * p.count for p in trained if p.adapter)
    tensors = sum(p.count for p in trained)
    return Resident(
        trainable=elements,
        total=sum(p.elements * p.count for p in everything),
        frozen_base=sum(p.count * _frozen_bytes(p, precision.base, spec.quantization) for p in frozen)
        + _rotary_bytes(spec),
        adapter=adapters * precision.trained,
        trained_base=(elements - adapters) * precision.trained,
        master=elements * precision.stepped if precision.has_master else 0,
        gradients=elements * precision.trained,
        optimizer=2 * elements * precision.stepped + STEP_COUNTER * tensors,
        activations=_library_tables(spec),
        stepped=elements,
        largest_stepped=reduce(np.maximum, (p.elements for p in trained)),
    )


def _frozen_bytes(parameter: Parameter, element: int, quantization: str) -> int:
    return nf4_bytes(parameter.elements, quantization) if parameter.quantized else parameter.elements * element


def nf4_bytes(elements: int, quantization: str) -> int:
    """One matrix in NF4: half a byte per weight, its scales and its code book."""
    blocks = -(-elements // NF4_BLOCK)
    packed = -(-elements // 2) + CODE_BOOK
    if quantization == "nf4":
        return packed + 4 * blocks
    return packed + blocks + 4 * -(-blocks // NESTED_BLOCK) + NESTED_CODE_BOOK + NESTED_OFFSET


def _library_tables(spec: RunSpec) -> int:
    if spec.regime != "qlora":
        return 0
    return NF4_TABLES + (spec.quantization == "nf4-double") * NESTED_TABLE


def _rotary_bytes(spec: RunSpec) -> int:
    """Cosines and sines of the rotary embedding, a buffer in the dtype of the queries."""
    if spec.model.block != "llama":
        return 0
    precision = PRECISIONS[spec.precision]
    element = HALF if precision.autocast else precision.base
    return 2 * spec.model.context * spec.model.head_width * element
