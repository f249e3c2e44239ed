"""One training step of MiniGPT as a shadow program: the forward of minigpt.py with sizes instead of tensors.

Every function mirrors the module of the same name, down to which Python reference keeps a tensor alive.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from footprint.predict.kernels.device import AttentionShape, Kernels
from footprint.predict.operators import INT64, Normed, Operators, Weight
from footprint.predict.shadow import Gradient, Node, Shadow, Storage, Variable
from footprint.predict.sharing import Alone
from footprint.predict.tape import Size, Tape
from footprint.spec.block import BIASED, Block
from footprint.spec.precision import FULL, HALF


@dataclass(frozen=True, slots=True)
class Layout:
    """Where attention's kernel leaves its result, and gradients, in another layout than projections have them."""

    grouped: bool = False
    """Whether several queries share a key."""
    spread: bool = False
    """Whether no stride leads over all heads of a batch, so that products copy their operands."""
    result: bool = False
    """Whether the result is copied for the projection."""
    queries: bool = False
    """Whether the queries' gradient is."""
    keys: bool = False
    """Whether the keys' gradient is."""
    values: bool = False
    """Whether the values' gradient is."""
    kept: bool = False
    """Whether backward copies the result that was kept for it."""
    transposed_keys: bool = False
    """Whether the keys' gradient is transposed instead, which products take as it is if there is one sequence."""
    sequences: bool = False
    """Whether there are several."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What decides which tensors exist; runs that share it differ in sizes only."""

    block: Block
    partly_rotary: bool
    """Whether only some elements of a head are turned."""
    regime: str
    nested_scales: bool
    adapted: tuple[str, ...]
    autocast: bool
    base: int
    trained: int
    tied_head: bool
    segments: tuple[int, ...]
    """Blocks per checkpointed segment, clamped to the pattern that matters; empty without checkpointing."""
    layers: int
    """Blocks of the shadow, when nothing is checkpointed."""
    attention: str
    """The kernel that attention takes (`Kernels.attention`)."""
    layout: Layout
    """How the heads of attention lie in memory."""
    gpus: int
    sharding: str
    """How they share the model (`RunSpec.sharding`)."""
    stands_for: tuple[int, ...] = ()
    """Blocks of the run that each block of the shadow stands for; empty where they are the same."""

    @property
    def blocks(self) -> int:
        """Blocks of the shadow."""
        return sum(self.segments) or self.layers

    def times(self, part: str) -> int:
        """How often the run has what the shadow has once, of a part of the model."""
        kind, _, number = part.partition(" ")
        return self.stands_for[int(number)] if kind == "block" and self.stands_for else 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Elements along each dimension: ints, or arrays with one entry per run."""

    batch: Size
    seq: Size
    width: Size
    heads: Size
    kv_heads: Size
    head_width: Size
    rotary_width: Size
    mlp_width: Size
    vocab: Size
    context: Size
    rank: Size


class Program:
    """Runs one step and keeps its events."""

    def __init__(self, structure: Structure, sizes: Sizes, kernels: Kernels) -> None:
        self.structure, self.sizes, self.kernels = structure, sizes, kernels
        self.shadow = Shadow()
        self.ops = Operators(self.shadow, kernels, batch=sizes.batch, seq=sizes.seq)
        self.sharing = Alone()
        """How several GPUs share the model; a run that builds one says."""
        self.full = structure.regime == "full"
        self.element = structure.trained if self.full else structure.base

    def run(self) -> Tape:
        """Events of forward and backward, parameter gradients still live at the end."""
        loss, batch = self.forward()
        self.shadow.pass_, self.shadow.part = "backward", "head"
        self.backward(loss, self.shadow.allocate("loss gradient", FULL))
        self.shadow.tape.recording = False
        del loss, batch
        return self.shadow.tape

    def forward(self) -> tuple[Variable, list[Storage]]:
        """The loss, and the batch that was copied to the device."""
        self.shadow.pass_, self.shadow.part = "forward", "embedding"
        batch = [self.shadow.allocate(name, self.ops.tokens * INT64) for name in ("tokens", "targets")]
        loss = self.sharing.model(self._model)
        self.shadow.release_held("forward")
        return loss, batch

    def backward(self, loss: Variable, seed: Storage) -> None:
        """The gradients of every trained parameter, from that of the loss."""
        self.shadow.part = "head"
        self.shadow.backward(loss.node, Gradient(seed))
        self.shadow.part = "end"
        self.sharing.finish()

    def _model(self) -> Variable:
        sizes = self.sizes
        shared = self.shadow.parameter_node("tokens") if self.structure.tied_head and self.full else None
        x = self.ops.embedding(sizes.vocab, sizes.width, self.element, self.full, shared=shared)
        if self.structure.block.positions == "learned":
            x = self.ops.add_positions(x, sizes.context, sizes.width, self.element, self.full)
        if self.structure.segments:
            start = 0
            for length in self.structure.segments:
                x = self.shadow.checkpoint(self._segment(start, length), x)
                start += length
        else:
            for index in range(self.structure.layers):
                x = self._hooked_block(index, x)
        self.shadow.part = "head"
        head = Weight(sizes.width, sizes.vocab, self.element, self.full)
        logits = self._linear("head", self._norm(x), head, shared)
        return self.ops.cross_entropy(logits, sizes.vocab)

    def _segment(self, start: int, length: int):
        def segment(x: Variable) -> Variable:
            for index in range(start, start + length):
                x = self._hooked_block(index, x)
            return x

        return segment

    def _hooked_block(self, index: int, x: Variable) -> Variable:
        """A block, between the hooks of what shares the model."""
        self.shadow.part = f"block {index}"
        return self.sharing.block(index, self._block, x)

    def _block(self, x: Variable) -> Variable:
        residual = self.structure.block.residual
        if residual == "parallel":
            x_and_attention = self.ops.add(x, self._attention(self._norm(x)), self.sizes.width)
            return self.ops.add(x_and_attention, self._mlp(self._norm(x)), self.sizes.width)
        if residual == "after":
            x = self.ops.add(x, self._norm(self._attention(x)), self.sizes.width)
            return self.ops.add(x, self._norm(self._mlp(x)), self.sizes.width)
        x = self.ops.add(x, self._attention(self._norm(x)), self.sizes.width)
        return self.ops.add(x, self._mlp(self._norm(x)), self.sizes.width)

    def _norm(self, x: Variable) -> Variable:
        normed = Normed(self.sizes.width, self.element, self.full)
        if self.structure.block.norm == "rms":
            return self._normalized(self.ops.rms_norm, x, normed, parameters=1)
        return self._normalized(self.ops.layer_norm, x, normed, parameters=2)

    def _normalized(self, norm: Callable, x: Variable, normed: Normed, parameters: int) -> Variable:
        """A norm with so many parameters; where autocast takes it to fp32, they are copied first."""
        if not (self.structure.autocast and self.kernels.norms_in_full_under_autocast):
            return norm(x, normed)
        copies = parameters if self.element == HALF else 0
        kept = [self.shadow.allocate("norm parameter in fp32", normed.width * FULL) for _ in range(copies)]
        x = self.ops.cast(x, normed.across, FULL)
        return norm(x, replace(normed, element=FULL), kept)

    def _attention(self, x: Variable) -> Variable:
        sizes, layout = self.sizes, self.structure.layout
        q = self._heads("q_proj", x, sizes.heads, copied=layout.queries)
        k = self._heads("k_proj", x, sizes.kv_heads, copied=layout.keys, transposed=layout.transposed_keys)
        v = self._heads("v_proj", x, sizes.kv_heads, copied=layout.values)
        if self.structure.block.positions == "rotary":
            q, k = self._rotary(q, sizes.heads), self._rotary(k, sizes.kv_heads)
        y = self._attend(q, k, v)
        q_width = sizes.head_width * sizes.heads
        laid_out = self.ops.lay_out(y, q_width) if layout.result else y
        return self._projection("o_proj", laid_out, q_width, sizes.width)

    def _heads(self, name: str, x: Variable, heads: Size, *, copied: bool, transposed: bool = False) -> Variable:
        """A projection seen as heads, perhaps normalized; its gradient may arrive in another layout."""
        width = self.sizes.head_width * heads
        norm = "none" if name == "v_proj" else self.structure.block.qk_norm
        scattered = copied or transposed
        transposed = transposed and norm == "none"
        x = self._projection(name, x, self.sizes.width, width, transposed=transposed)
        if norm == "width":
            x = self._normalized(self.ops.rms_norm, x, Normed(width, self.element, self.full), parameters=1)
        if norm == "head":
            normed = Normed(self.sizes.head_width, self.element, self.full, heads=heads, scattered=scattered)
            return self._normalized(self.ops.rms_norm, x, normed, parameters=1)
        return self.ops.gathered(x, width) if scattered and not transposed else x

    def _rotary(self, x: Variable, heads: Size) -> Variable:
        width, turning = self.sizes.head_width * heads, self.sizes.rotary_width * heads
        return self.ops.partly_rotary(x, turning, width) if self.structure.partly_rotary else self.ops.rotary(x, width)

    def _attend(self, q: Variable, k: Variable, v: Variable) -> Variable:
        """scaled_dot_product_attention; what autocast casts for it lives as long as the call."""
        sizes = self.sizes
        if self.structure.autocast and self.kernels.casts_attention:
            kv_width = sizes.head_width * sizes.kv_heads
            v, k = (self.ops.cast(x, kv_width, HALF) for x in (v, k))
            q = self.ops.cast(q, sizes.head_width * sizes.heads, HALF)
        shape = AttentionShape(sizes.batch, sizes.seq, sizes.heads, sizes.kv_heads, sizes.head_width, q.element)
        if self.structure.attention == "math":
            layout, joined = self.structure.layout, self.structure.partly_rotary
            return self.ops.plain_attention(q, k, v, shape, grouped=layout.grouped, spread=layout.spread, joined=joined)
        if self.structure.attention == "padded":
            return self.ops.padded_attention(q, k, v, shape)
        return self.ops.attention(self.structure.attention, q, k, v, shape, copies=int(self.structure.layout.kept))

    def _mlp(self, x: Variable) -> Variable:
        width, mlp_width = self.sizes.width, self.sizes.mlp_width
        if self.structure.block.mlp != "swiglu":
            activation = self.ops.gelu if self.structure.block.mlp == "gelu" else self.ops.relu
            inner = activation(self._projection("up_proj", x, width, mlp_width), mlp_width)
            return self._projection("down_proj", inner, mlp_width, width)
        gate = self.ops.silu(self._projection("gate_proj", x, width, mlp_width), mlp_width)
        inner = self.ops.multiply(gate, self._projection("up_proj", x, width, mlp_width), mlp_width)
        del gate
        return self._projection("down_proj", inner, mlp_width, width)

    def _linear(self, name: str, x: Variable, weight: Weight, shared: Node | None = None) -> Variable:
        return (self.ops.autocast_linear if self.structure.autocast else self.ops.linear)(name, x, weight, shared)

    def _projection(self, name: str, x: Variable, d_in: Size, d_out: Size, *, transposed: bool = False) -> Variable:
        """A Linear of a block, with PEFT's adapter around it when the run puts one there."""
        base = Weight(
            d_in,
            d_out,
            self.element,
            self.full,
            bias=name in BIASED[self.structure.block.biases],
            nested_scales=self.structure.nested_scales,
        )
        if name not in self.structure.adapted:
            return self._base(name, x, base, transposed=transposed)
        adapter = self._adapter_4bit if self.structure.regime == "qlora" else self._adapter
        return adapter(name, x, base, transposed=transposed)

    def _base(self, name: str, x: Variable, weight: Weight, *, transposed: bool) -> Variable:
        if self.structure.regime == "qlora":
            return self.ops.linear_4bit(name, x, weight)
        return self._flat_linear(name, x, weight, transposed=transposed)

    def _flat_linear(self, name: str, x: Variable, weight: Weight, *, transposed: bool = False) -> Variable:
        """A Linear over tokens in one row; a transposed gradient of several sequences is copied into that shape."""
        if not transposed:
            return self._linear(name, x, weight)
        if self.structure.layout.sequences:
            return self.ops.gathered(self._linear(name, x, weight), weight.d_out)
        return self._linear(name, x, replace(weight, sums_rows=False))

    def _adapter(self, name: str, x: Variable, base: Weight, *, transposed: bool) -> Variable:
        """peft.tuners.lora.layer.Linear.forward: base + B(A(x)) * scaling."""
        result = self._base(name, x, base, transposed=transposed)
        x = self.ops.cast(x, base.d_in, self.structure.trained)
        return self.ops.add(result, self._update(name, x, base, transposed=transposed), base.d_out)

    def _adapter_4bit(self, name: str, x: Variable, base: Weight, *, transposed: bool) -> Variable:
        """peft.tuners.lora.bnb.Linear4bit.forward: the same with a defensive clone of the base's result."""
        result = self._base(name, x, base, transposed=transposed)
        result = self.ops.clone(result, base.d_out)
        if self.kernels.peft_casts_4bit_input or not self.structure.autocast:
            x = self.ops.cast(x, base.d_in, self.structure.trained)
        return self.ops.add(result, self._update(name, x, base, transposed=transposed), base.d_out)

    def _update(self, name: str, x: Variable, base: Weight, *, transposed: bool) -> Variable:
        down = Weight(base.d_in, self.sizes.rank, self.structure.trained, True)
        up = Weight(self.sizes.rank, base.d_out, self.structure.trained, True)
        result = self._flat_linear(f"{name} B", self._linear(f"{name} A", x, down), up, transposed=transposed)
        return self.ops.scale(result, base.d_out)
