"""A run from its first allocation on: the model built, one step made. What the CUDA allocator needs to know in order.

The shadow of a step (`program`) starts where weights and optimizer state exist. Here they are made too, as
`train.regimes` and `train.optimizers` make them, on the same tape. Sizes are requested bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from footprint.predict.arithmetic import maximum, where
from footprint.predict.kernels.device import Kernels
from footprint.predict.parameters import (
    CODE_BOOK,
    MOMENT_BLOCK,
    MOMENT_TABLE,
    NESTED_BLOCK,
    NESTED_CODE_BOOK,
    NESTED_OFFSET,
    NF4_BLOCK,
    SMALLEST_8BIT,
    SMALLEST_PAGED,
    STEP_COUNTER,
)
from footprint.predict.program import Program, Sizes, Structure
from footprint.predict.shadow import Gradient, Handle, Shadow, Storage, Variable
from footprint.predict.tape import ACTIVATIONS, ADAPTER, FROZEN_BASE, MASTER, OPTIMIZER, TRAINED, Size, Tape
from footprint.spec.block import BIASED
from footprint.spec.precision import FULL, HALF

SCALAR, DOUBLE = 4, 8
"""Bytes of a scalar on the device: fp32, or a Python number made into a tensor."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides how a run's tensors are stepped."""

    optimizer: str
    stepped: int
    """Bytes per element of what the optimizer updates."""
    scales_loss: bool
    """Whether fp16's small gradients are kept from vanishing by a scaled loss."""


class WholeRun:
    """Builds a model and makes one step. Tensors that outlive the step exist already in every later one."""

    def __init__(self, structure: Structure, recipe: Recipe, sizes: Sizes, kernels: Kernels) -> None:
        self.program = Program(structure, sizes, kernels)
        self.structure, self.recipe, self.sizes = structure, recipe, sizes
        self.shadow: Shadow = self.program.shadow
        self.shadow.handles = defaultdict(Handle)
        self.kept: list[Storage] = []
        self.trained: list[tuple[str, Size]] = []
        """Every trained parameter, in the order the optimizer steps them: the part of the model it is of, its elements.
        """
        self._tables_made = False

    def run(self) -> Tape:
        """The tape; its passes are `build`, those of a step, `step` and `between`, where the step is cleared away."""
        self._enter("build")
        self._build()
        self._enter("between")
        if self.recipe.scales_loss:
            for name in ("loss scale", "overflow", "steps since the last change"):
                self._keep(name, SCALAR, ACTIVATIONS)
        loss, batch = self.program.forward()
        self._backward(loss)
        self._enter("step")
        if self.recipe.scales_loss:
            self.shadow.scratch("reciprocal scale", SCALAR)
        self._step()
        self._enter("between")
        del loss, batch
        self.shadow.gradients.clear()
        self.shadow.tape.recording = False
        return self.shadow.tape

    def _enter(self, pass_: str) -> None:
        self.shadow.pass_, self.shadow.part = pass_, ""

    def _backward(self, loss: Variable) -> None:
        self._enter("backward")
        if self.recipe.scales_loss:
            node = self.shadow.node(loss)
            node.run = lambda g: [Gradient(self.shadow.allocate("gradient of the scaled loss", SCALAR))]
            loss = Variable(self.shadow.allocate("scaled loss", SCALAR), SCALAR, node)
        self.program.backward(loss, self.shadow.allocate("loss gradient", FULL))

    # --- building: train.regimes.prepare ---------------------------------------------------------------------------

    def _build(self) -> None:
        structure, sizes = self.structure, self.sizes
        full = structure.regime == "full"
        element = structure.trained if full else structure.base
        kind = TRAINED if full else FROZEN_BASE

        def dense(name: str, elements: Size) -> None:
            self._keep(name, elements * element, kind)
            if full:
                self.trained.append((self.shadow.part, elements))

        def norm(width: Size = sizes.width, names: Sequence[str] = structure.block.norm_parameters) -> None:
            for name in names:
                dense(name, width)

        dense("tokens", sizes.vocab * sizes.width)
        if structure.block.positions == "learned":
            dense("positions", sizes.context * sizes.width)
        else:
            self._rotary()
        for block in range(structure.blocks):
            self.shadow.part = f"block {block}"
            norm()
            for name, (d_in, d_out) in self._linears():
                if name == self._first_of_mlp:
                    for width in self._normed_heads():
                        norm(width, ("norm weight of heads",))
                    norm()
                matrix = None
                if structure.regime == "qlora":
                    matrix = self.shadow.allocate("matrix to quantize", d_in * d_out * element)
                else:
                    dense(name, d_in * d_out)
                if name in BIASED[structure.block.biases]:
                    dense(f"{name} bias", d_out)
                if matrix is not None:
                    self._quantize(d_in * d_out)
                del matrix
        self.shadow.part = ""
        norm()
        if structure.tied_head:
            self.shadow.scratch("head that is tied", sizes.vocab * sizes.width * element)
        else:
            dense("head", sizes.vocab * sizes.width)
        if not full:
            self._adapters()
        if self.recipe.stepped != structure.trained:
            for elements in self._each_trained():
                self._keep("master copy", elements * self.recipe.stepped, MASTER)

    def _each_trained(self) -> Iterator[Size]:
        """Elements of every trained parameter; meanwhile its part of the model is where the run is."""
        for part, elements in self.trained:
            self.shadow.part = part
            yield elements
        self.shadow.part = ""

    def _normed_heads(self) -> tuple[Size, ...]:
        """Elements of the norms of queries and keys."""
        sizes, of = self.sizes, self.structure.block.qk_norm
        if of == "head":
            return sizes.head_width, sizes.head_width
        return (sizes.head_width * sizes.heads, sizes.head_width * sizes.kv_heads) if of == "width" else ()

    def _keep(self, name: str, size: Size, kind: str) -> None:
        self.kept.append(self.shadow.allocate(name, size, kind))

    @property
    def _first_of_mlp(self) -> str:
        return "gate_proj" if self.structure.block.mlp == "swiglu" else "up_proj"

    def _linears(self) -> Iterator[tuple[str, tuple[Size, Size]]]:
        """The Linears of a block, (d_in, d_out), in the order they are registered."""
        sizes = self.sizes
        width, inner = sizes.width, sizes.heads * sizes.head_width
        yield "q_proj", (width, inner)
        yield "k_proj", (width, sizes.kv_heads * sizes.head_width)
        yield "v_proj", (width, sizes.kv_heads * sizes.head_width)
        yield "o_proj", (inner, width)
        if self.structure.block.mlp == "swiglu":
            yield "gate_proj", (width, sizes.mlp_width)
        yield "up_proj", (width, sizes.mlp_width)
        yield "down_proj", (sizes.mlp_width, width)

    def _rotary(self) -> None:
        """The tables in fp32, cast to the dtype of the queries, then filled (minigpt.Rotary.reset)."""
        rows, half_width = maximum(self.sizes.context, self.sizes.seq), self.sizes.rotary_width // 2
        element = HALF if self.structure.autocast else self.structure.base
        if self.structure.regime == "full" and not self.structure.autocast:
            element = self.structure.trained
        table = rows * 2 * half_width
        tables = [self.shadow.allocate("rotary table in fp32", table * FULL, FROZEN_BASE) for _ in range(2)]
        if element != FULL:
            for index in range(2):
                tables[index] = self.shadow.allocate("rotary table", table * element, FROZEN_BASE)
        self.kept += tables
        positions = self.shadow.allocate("positions", rows * FULL)
        pairs = self.shadow.allocate("pairs", half_width * FULL)
        negated = self.shadow.allocate("negated pairs", half_width * FULL)
        exponents = self.shadow.allocate("exponents", half_width * FULL)
        del negated
        frequencies = self.shadow.allocate("frequencies", half_width * FULL)
        base = self.shadow.allocate("base of the powers", DOUBLE)
        del exponents, base
        outer = self.shadow.allocate("outer product", rows * half_width * FULL)
        del frequencies
        angles = self.shadow.allocate("angles", table * FULL)
        del outer
        for _ in range(2):
            self.shadow.scratch("cosines or sines", table * FULL)
        del positions, pairs, angles

    def _quantize(self, elements: Size) -> None:
        """bitsandbytes' Params4bit: a dense matrix becomes packed weights, scales and a code book (functional.py)."""
        blocks = -(-elements // NF4_BLOCK)
        nested = self.structure.nested_scales
        scales = self.shadow.allocate("scales", blocks * FULL, *([] if nested else [FROZEN_BASE]))
        self._keep("packed weights", -(-elements // 2), FROZEN_BASE)
        self._keep("code book", CODE_BOOK, FROZEN_BASE)
        magnitudes = self.shadow.allocate("magnitudes", CODE_BOOK)
        largest = self.shadow.allocate("largest", SCALAR)
        del magnitudes, largest
        if not nested:
            self.kept.append(scales)
            return
        self._keep("offset", NESTED_OFFSET, FROZEN_BASE)
        self.program.kernels.whole_sum(blocks, self.shadow.allocate)
        shifted = self.shadow.allocate("shifted scales", blocks * FULL)
        if not self._tables_made:
            self._keep("table of the library", NESTED_CODE_BOOK, ACTIVATIONS)
            self._tables_made = True
        self._keep("scales of scales", -(-blocks // NESTED_BLOCK) * FULL, FROZEN_BASE)
        self._keep("quantized scales", blocks, FROZEN_BASE)
        self._keep("code book of scales", NESTED_CODE_BOOK, FROZEN_BASE)
        del shifted, scales

    def _adapters(self) -> None:
        """PEFT makes adapters in the dtype of their base; then each is cast to the dtype that trains."""
        sizes, element = self.sizes, self.structure.trained
        shapes = dict(self._linears())
        for block in range(self.structure.blocks):
            for name, (d_in, d_out) in shapes.items():
                if name in self.structure.adapted:
                    part = f"block {block}"
                    self.trained += [(part, d_in * sizes.rank), (part, sizes.rank * d_out)]
        made = [self.shadow.allocate("adapter", n * self.structure.base, ADAPTER) for n in self._each_trained()]
        if element != self.structure.base:
            for index, elements in enumerate(self._each_trained()):
                made[index] = self.shadow.allocate("adapter that trains", elements * element, ADAPTER)
        self.kept += made

    # --- stepping: train.optimizers --------------------------------------------------------------------------------

    def _step(self) -> None:
        if self.recipe.stepped == self.structure.trained:
            self._update(self._each_trained)
            return
        for elements in self._each_trained():
            gradient = self.shadow.allocate("gradient in fp32", elements * FULL)
            self._update(lambda elements=elements: [elements])
            del gradient

    def _update(self, tensors: Callable[[], Iterable[Size]]) -> None:
        """One optimizer over some tensors: their state, then what it takes while it runs."""
        optimizer, stepped = self.recipe.optimizer, self.recipe.stepped
        quantized: dict[Size, Size] = {}
        for elements in tensors():
            if optimizer == "adamw-8bit":
                self._moments_8bit(elements, quantized)
                continue
            if optimizer == "adamw-fused":
                self._keep("step counter", STEP_COUNTER, OPTIMIZER)
            size = elements * stepped
            if optimizer == "paged-adamw":
                size = where(elements < SMALLEST_PAGED, elements * FULL, 0)
            for _ in range(2):
                self._keep("moment", size, OPTIMIZER)
        if optimizer == "adamw":
            roots = [self.shadow.allocate("square root", elements * stepped) for elements in tensors()]
            del roots

    def _moments_8bit(self, elements: Size, quantized: dict[Size, Size]) -> None:
        """Tensors that are not too small are quantized; the first of an optimizer brings the tables of levels.

        `quantized` tells of each size so far whether it is large enough.
        """
        large = elements >= SMALLEST_8BIT
        if elements not in quantized:
            first = large * (1 - maximum(0, *quantized.values()))
            for _ in range(2):
                self._keep("table of levels", MOMENT_TABLE * first, OPTIMIZER)
            quantized[elements] = large * 1
        for _ in range(2):
            self._keep("8-bit moment", where(large, elements, elements * FULL), OPTIMIZER)
        for _ in range(2):
            self._keep("scales of a moment", large * -(-elements // MOMENT_BLOCK) * FULL, OPTIMIZER)
