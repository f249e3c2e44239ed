"""Every parameter of a run, and the bytes of weights, gradients and optimizer state that follow from them."""

from collections.abc import Iterator
from dataclasses import dataclass

from footprint.errors import missing_formula
from footprint.predict.arithmetic import maximum, minimum, where
from footprint.predict.tape import Size
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

RANK = 4
"""Bytes of the number of a rank in a mesh."""

SMALLEST_PAGED = 100_000
"""bitsandbytes' paged AdamW keeps the moments of smaller tensors in ordinary device memory."""

NF4_TABLES, NESTED_TABLE = 15 * 4 + 16 * 8 + 16 * 4, 256 * 4
"""What bitsandbytes keeps for the process once it has quantized: NF4's bounds (fp32), their order (int64) and levels
(fp32), which its CUDA kernel holds itself; with double quantization the fp32 levels of the 8-bit code as well."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """`count` tensors of `rows` times `columns` elements each."""

    name: str
    rows: int
    columns: int
    count: int
    trained: bool
    quantized: bool = False
    adapter: bool = False

    @property
    def elements(self) -> int:
        """Elements of one."""
        return self.rows * self.columns

    def held(self, shards: int) -> int:
        """Elements of one that the first GPU holds if it is cut into so many shards."""
        return shard(self.rows, shards) * self.columns


def shard(rows: Size, shards: Size) -> Size:
    """Rows of the first of so many shards of a tensor: none has more, and the last may have none.

    FSDP2 cuts along the first dimension and pads every shard to these rows (_fsdp_param.py, _init_sharded_param).
    """
    return -(-rows // shards)


def shards(spec: RunSpec) -> int:
    """Shards that every parameter, its gradient and its optimizer state are cut into."""
    return spec.gpus if spec.sharding == "fsdp" else 1


def parameters(spec: RunSpec) -> Iterator[Parameter]:
    """Every parameter of the model and its adapters."""
    model, full = spec.model, spec.regime == "full"
    for name, rows, columns, count in _dense(model):
        yield Parameter(name, rows, columns, count, full)
    for name, (d_in, d_out) in model.linears.items():
        yield Parameter(name, d_out, d_in, model.layers, full, quantized=spec.regime == "qlora")
        if name in model.biased:
            yield Parameter(f"{name} bias", d_out, 1, model.layers, full)
    for name in model.adapted(spec.targets):
        d_in, d_out = model.linears[name]
        yield Parameter(f"{name} A", spec.rank, d_in, model.layers, True, adapter=True)
        yield Parameter(f"{name} B", d_out, spec.rank, model.layers, True, adapter=True)


def _dense(model: ModelSpec) -> Iterator[tuple[str, int, int, int]]:
    """Tensors outside the blocks' Linears, never quantized: (name, rows, columns, count)."""
    yield "tokens", model.vocab, model.width, 1
    if not model.tied_head:
        yield "head", model.vocab, model.width, 1
    for name in model.kind.norm_parameters:
        yield name, model.width, 1, 2 * model.layers + 1
    if model.positions == "learned":
        yield "positions", model.context, model.width, 1
    if model.qk_norm == "head":
        yield "norm weight of heads", model.head_width, 1, 2 * model.layers
    if model.qk_norm == "width":
        yield "norm weight of queries", model.attention_width, 1, model.layers
        yield "norm weight of keys", model.kv_width, 1, model.layers


def parameter_count(model: ModelSpec) -> int:
    """Parameters of the bare model."""
    return sum(p.elements * p.count for p in parameters(RunSpec(model=model, regime="full", batch=1, seq=1)))


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes that are live through every step on the GPU that holds most, and those that gradients add there."""

    trainable: int
    """Parameters of the whole model that train."""
    total: int
    frozen_base: int
    adapter: int
    trained_base: int
    master: int
    gradients: int
    optimizer: int
    activations: int
    """What no tensor of the model refers to: tables a library keeps for the process, DDP's buckets of gradients, ..."""
    square_roots: int
    """One tensor like each stepped one: what foreach AdamW makes of the second moments."""
    largest_stepped: int
    """Elements of the largest tensor among them."""

    @property
    def weights(self) -> int:
        """The weights bucket."""
        return self.frozen_base + self.adapter + self.trained_base + self.master


def resident(spec: RunSpec) -> Resident:
    """Bytes of weights, gradients and AdamW state of a run, exact to the byte.

    Buffers and the scales of NF4 are no parameters: every GPU holds them whole.
    """
    precision, cut = PRECISIONS[spec.precision], shards(spec)
    everything = list(parameters(spec))
    trained = [p for p in everything if p.trained]
    frozen = [p for p in everything if not p.trained]
    adapters = [p for p in trained if p.adapter]
    base = [p for p in trained if not p.adapter]

    def dense(parameters_: list[Parameter], element: int) -> int:
        return sum(p.count * p.held(cut) * element for p in parameters_)

    frozen_base = dense([p for p in frozen if not p.quantized], precision.base)
    for p in frozen:
        if p.quantized:
            packed, *scales = nf4_parts(p.elements, spec.quantization)
            frozen_base += p.count * (shard(packed, cut) + sum(scales))
    return Resident(
        trainable=sum(p.elements * p.count for p in trained),
        total=sum(p.elements * p.count for p in everything),
        frozen_base=frozen_base + _rotary_bytes(spec),
        adapter=dense(adapters, precision.trained),
        trained_base=dense(base, precision.trained),
        master=dense(trained, precision.stepped) if precision.has_master else 0,
        gradients=dense(trained, precision.trained),
        optimizer=optimizer_bytes(spec, trained),
        activations=_library_tables(spec) + _of_sharing(spec, dense(trained, precision.trained)),
        square_roots=dense(trained, precision.stepped),
        largest_stepped=maximum(*(p.held(cut) for p in trained)),
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
    held = [(p.count, p.held(shards(spec))) for p in trained]
    if spec.optimizer == "adamw-8bit":
        # The tables reach the device with the first 8-bit moments of an optimizer; every master copy has its own.
        quantized = sum(where(elements >= SMALLEST_8BIT, count, 0) for count, elements in held)
        has_master = PRECISIONS[spec.precision].has_master
        tables = 2 * MOMENT_TABLE * (quantized if has_master else minimum(quantized, 1))
        return tables + 2 * sum(count * _moment_8bit(elements) for count, elements in held)
    if spec.optimizer == "paged-adamw":
        small = [(count, where(elements < SMALLEST_PAGED, elements * FULL, 0)) for count, elements in held]
        return 2 * sum(count * size for count, size in small)
    if spec.optimizer not in ("adamw", "adamw-fused"):
        raise missing_formula("optimizer", spec.optimizer)
    counters = spec.device == "cpu" or spec.optimizer == "adamw-fused"
    return sum(count * (2 * elements * stepped + counters * STEP_COUNTER) for count, elements in held)


def _moment_8bit(elements: int) -> int:
    blocks = -(-elements // MOMENT_BLOCK)
    quantized = elements + blocks * FULL
    return where(elements < SMALLEST_8BIT, elements * FULL, quantized)


def _library_tables(spec: RunSpec) -> int:
    if spec.regime != "qlora":
        return 0
    return NF4_TABLES * (spec.device == "cpu") + NESTED_TABLE * (spec.quantization == "nf4-double")


def _of_sharing(spec: RunSpec, gradients: int) -> int:
    """DDP's buckets, or the ranks that every group's mesh keeps on the host under FSDP2 (device_mesh.py, _rank_map)."""
    if spec.sharding == "ddp":
        return gradients
    groups = spec.model.layers + 1
    return RANK * spec.gpus * groups * (spec.sharding == "fsdp" and spec.device == "cpu")


def _rotary_bytes(spec: RunSpec) -> int:
    """Cosines and sines of the rotary embedding, a buffer in the dtype of the queries."""
    if spec.model.positions != "rotary":
        return 0
    precision = PRECISIONS[spec.precision]
    element = HALF if precision.autocast else precision.base
    return 2 * spec.positions * spec.model.rotary_width * element
