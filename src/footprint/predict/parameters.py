"""Every parameter of a run, and the bytes of weights, gradients and optimizer state that follow from them."""

from collections.abc import Iterator
from dataclasses import dataclass

from footprint.errors import missing_formula
from footprint.predict.arithmetic import maximum, minimum, where
from footprint.spec.model import ModelSpec
from footprint.spec.precision import FULL, HALF, PRECISIONS
from footprint.spec.run import RunSpec

NF4_BLOCK = 64
"""Weights that share one absmax in bitsandbytes' 4-bit quantization (its default block size)."""

STEP_COUNTER = 4
"""AdamW keeps its step count as one fp32 scalar per stepped tensor."""

CODE_BOOK = 16 * 4
"""The sixteen NF4 levels in fp32; bitsandbytes keeps one table per quantized matrix."""

NESTED_BLOCK, NESTED_CODE_BOOK, NESTED_OFFSET = 256, 256 * 4, 4
"""Double quantization: one fp32 scale per 256 absmax bytes, a table of 256 fp32 levels, one fp32 offset."""

SMALLEST_8BIT, MOMENT_BLOCK, MOMENT_TABLE = 4096, 256, 256 * 4
"""bitsandbytes' 8-bit AdamW: tensors below 4096 elements keep fp32 moments; the others one fp32 absmax per 256 elements
of each moment; two tables of 256 fp32 levels per optimizer."""

SMALLEST_PAGED = 100_000
"""bitsandbytes' paged AdamW keeps the moments of smaller tensors in ordinary device memory."""

NF4_TABLES, NESTED_TABLE = 15 * 4 + 16 * 8 + 16 * 4, 256 * 4
"""What bitsandbytes keeps for the process once it has quantized: NF4's bounds (fp32), their order (int64) and levels
(fp32), which its CUDA kernel holds itself; with double quantization the fp32 levels of the 8-bit code as well."""


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
        if name in model.biased:
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
    for name in model.kind.norm_parameters:
        yield name, model.width, 2 * model.layers + 1
    if model.positions == "learned":
        yield "positions", model.context * model.width, 1
    if model.qk_norm == "head":
        yield "norm weight of heads", model.head_width, 2 * model.layers
    if model.qk_norm == "width":
        yield "norm weight of queries", model.attention_width, model.layers
        yield "norm weight of keys", model.kv_width, model.layers


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
    square_roots: int
    """One tensor like each stepped one: what foreach AdamW makes of the second moments."""
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
    adapters = [p for p in trained if p.adapter]
    base = [p for p in trained if not p.adapter]

    def dense(parameters_: list[Parameter], element: int) -> int:
        return sum(p.count * p.elements * element for p in parameters_)

    frozen_base = dense([p for p in frozen if not p.quantized], precision.base)
    for p in frozen:
        if p.quantized:
            parts = nf4_parts(p.elements, spec.quantization)
            frozen_base += p.count * sum(parts)
    return Resident(
        trainable=sum(p.elements * p.count for p in trained),
        total=sum(p.elements * p.count for p in everything),
        frozen_base=frozen_base + _rotary_bytes(spec),
        adapter=dense(adapters, precision.trained),
        trained_base=dense(base, precision.trained),
        master=dense(trained, precision.stepped) if precision.has_master else 0,
        gradients=dense(trained, precision.trained),
        optimizer=optimizer_bytes(spec, trained),
        activations=_library_tables(spec),
        square_roots=dense(trained, precision.stepped),
        largest_stepped=maximum(*(p.elements for p in trained)),
    )


def nf4_bytes(elements: int, quantization: str) -> int:
    """One matrix in NF4: half a byte per weight, its scales and its code book."""
    return sum(nf4_parts(elements, quantization))


def nf4_parts(elements: int, quantization: str) -> tuple[int, ...]:
    """The tensors one NF4 matrix consists of: packed weights, code book, scales."""
    blocks = -(-elements // NF4_BLOCK)
    packed = (-(-elements // 2), CODE_BOOK)
    if quantization == "nf4":
        return *packed, 4 * blocks
    if quantization != "nf4-double":
        raise missing_formula("quantization", quantization)
    return *packed, blocks, 4 * -(-blocks // NESTED_BLOCK), NESTED_CODE_BOOK, NESTED_OFFSET


def optimizer_bytes(spec: RunSpec, trained: list[Parameter]) -> int:
    """AdamW's state in device memory: two moments per stepped element, and where they are kept there, step counters.

    PyTorch keeps the counters on the host for its foreach AdamW on CUDA. bitsandbytes (optim/optimizer.py) counts in
    Python, keeps moments of small tensors in fp32 whatever is asked for, and pages the others outside the allocator.
    """
    stepped = PRECISIONS[spec.precision].stepped
    if spec.optimizer == "adamw-8bit":
        # The tables reach the device with the first 8-bit moments of an optimizer; every master copy has its own.
        quantized = sum(where(p.elements >= SMALLEST_8BIT, p.count, 0) for p in trained)
        has_master = PRECISIONS[spec.precision].has_master
        tables = 2 * MOMENT_TABLE * (quantized if has_master else minimum(quantized, 1))
        return tables + 2 * sum(p.count * _moment_8bit(p.elements) for p in trained)
    if spec.optimizer == "paged-adamw":
        small = [(p.count, where(p.elements < SMALLEST_PAGED, p.elements * FULL, 0)) for p in trained]
        return 2 * sum(count * size for count, size in small)
    if spec.optimizer not in ("adamw", "adamw-fused"):
        raise missing_formula("optimizer", spec.optimizer)
    counters = spec.device == "cpu" or spec.optimizer == "adamw-fused"
    each = [(p.count, 2 * p.elements * stepped) for p in trained]
    return sum(count * (size + counters * STEP_COUNTER) for count, size in each)


def _moment_8bit(elements: int) -> int:
    blocks = -(-elements // MOMENT_BLOCK)
    quantized = elements + blocks * FULL
    return where(elements < SMALLEST_8BIT, elements * FULL, quantized)


def _library_tables(spec: RunSpec) -> int:
    if spec.regime != "qlora":
        return 0
    return NF4_TABLES * (spec.device == "cpu") + NESTED_TABLE * (spec.quantization == "nf4-double")


def _rotary_bytes(spec: RunSpec) -> int:
    """Cosines and sines of the rotary embedding, a buffer in the dtype of the queries."""
    if spec.model.positions != "rotary":
        return 0
    precision = PRECISIONS[spec.precision]
    element = HALF if precision.autocast else precision.base
    return 2 * spec.positions * spec.model.rotary_width * element
