"""One training step of MiniGPT as a shadow program: the forward of minigpt.py with sizes instead of tensors.

Every function mirrors the module of the same name, down to which Python reference keeps a tensor alive.
"""

from dataclasses import dataclass

from footprint.predict.kernels import Kernels
from footprint.predict.operators import INT64, Operators
from footprint.predict.operators.products import Weight
from footprint.predict.shadow import Gradient, Node, Shadow, Storage, Variable
from footprint.predict.tape import Size, Tape
from footprint.spec.precision import FULL


@dataclass(frozen=True, slots=True)
class Structure:
    """What decides which tensors exist; runs that share it differ in sizes only."""

    block: str
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


@dataclass(frozen=True, slots=True)
class Sizes:
    """Elements along each dimension: ints, or arrays with one entry per run."""

    batch: Size
    seq: Size
    width: Size
    heads: Size
    kv_heads: Size
    head_width: Size
    mlp_width: Size
    vocab: Size
    context: Size
    rank: Size


class Program:
    """Runs one step and keeps its events."""

    def __init__(self, structure: Structure, sizes: Sizes, kernels: Kernels) -> None:
        self.structure, self.sizes, self.kernels = structure, sizes, kernels
        self.shadow = Shadow(kernels.granularity)
        self.ops = Operators(self.shadow, kernels, batch=sizes.batch, seq=sizes.seq)
        self.full = structure.regime == "full"
        self.element = structure.trained if self.full else structure.base

    def run(self) -> Tape:
        """Events of forward and backward, parameter gradients still live at the end."""
        loss, batch = self._forward()
        seed = self.shadow.allocate("loss gradient", FULL)
        self.shadow.part = "head"
        self.shadow.backward(loss.node, Gradient(seed))
        self.shadow.part = "end"
        del seed
        self.shadow.tape.recording = False
        del loss, batch
        return self.shadow.tape

    def _forward(self) -> tuple[Variable, list[Storage]]:
        self.shadow.part = "embedding"
        batch = [self.shadow.allocate(name, self.ops.tokens * INT64) for name in ("tokens", "targets")]
        loss = self._model()
        self.shadow.release_held("forward")
        return loss, batch

    def _model(self) -> Variable:
        sizes = self.sizes
        shared = self.shadow.parameter_node() if self.structure.tied_head and self.full else None
        x = self.ops.embedding(sizes.vocab, sizes.width, self.element, self.full, shared=shared)
        if self.structure.block == "gpt":
            x = self.ops.add_positions(x, sizes.context, sizes.width, self.element, self.full)
        if self.structure.segments:
            start = 0
            for length in self.structure.segments:
                x = self.shadow.checkpoint(self._segment(start, length), x)
                start += length
        else:
            for index in range(self.structure.layers):
                self.shadow.part = f"block {index}"
                x = self._block(x)
        self.shadow.part = "head"
        head = Weight(sizes.width, sizes.vocab, self.element, self.full)
        logits = self._linear("head", self._norm(x), head, shared)
        return self.ops.cross_entropy(logits, sizes.vocab)

    def _segment(self, start: int, length: int):
        def segment(x: Variable) -> Variable:
            for index in range(start, start + length):
                self.shadow.part = f"block {index}"
                x = self._block(x)
            return x

        return segment

    def _block(self, x: Variable) -> Variable:
        x = self.ops.add(x, self._attention(self._norm(x)), self.sizes.width)
        return self.ops.add(x, self._mlp(self._norm(x)), self.sizes.width)

    def _norm(self, x: Variable) -> Variable:
        norm = self.ops.layer_norm if self.structure.block == "gpt" else self.ops.rms_norm
        element = self.element
        if self.structure.autocast and self.kernels.norms_in_full_under_autocast:
            # The fp32 copies of frozen parameters, a few kilobytes that are saved too, are left out.
            x, element = self.ops.cast(x, self.sizes.width, FULL), FULL
        return norm(x, self.sizes.width, element, self.full)

    def _attention(self, x: Variable) -> Variable:
        sizes = self.sizes
        q_width, kv_width = sizes.head_width * sizes.heads, sizes.head_width * sizes.kv_heads
        q = self._projection("q_proj", x, sizes.width, q_width)
        k = self._projection("k_proj", x, sizes.width, kv_width)
        v = self._projection("v_proj", x, sizes.width, kv_width)
        if self.structure.block == "llama":
            q, k = self.ops.rotary(q, q_width), self.ops.rotary(k, kv_width)
        y = self.ops.attention(q, k, v, heads=sizes.heads, kv_heads=sizes.kv_heads, head_width=sizes.head_width)
        return self._projection("o_proj", y, q_width, sizes.width)

    def _mlp(self, x: Variable) -> Variable:
        width, mlp_width = self.sizes.width, self.sizes.mlp_width
        if self.structure.block == "gpt":
            inner = self.ops.gelu(self._projection("up_proj", x, width, mlp_width), mlp_width)
            return self._projection("down_proj", inner, mlp_width, width)
        gate = self.ops.silu(self._projection("gate_proj", x, width, mlp_width), mlp_width)
        inner = self.ops.multiply(gate, self._projection("up_proj", x, width, mlp_width), mlp_width)
        del gate
        return self._projection("down_proj", inner, mlp_width, width)

    def _linear(self, name: str, x: Variable, weight: Weight, shared: Node | None = None) -> Variable:
        return (self.ops.autocast_linear if self.structure.autocast else self.ops.linear)(name, x, weight, shared)

    def _projection(self, name: str, x: Variable, d_in: Size, d_out: Size) -> Variable:
        """A Linear of a block, with PEFT's adapter around it when the run puts one there."""
        base = Weight(
            d_in,
            d_out,
            self.element,
            self.full,
            bias=self.structure.block == "gpt",
            nested_scales=self.structure.nested_scales,
        )
        if name not in self.structure.adapted:
            return self._base(name, x, base)
        if self.structure.regime == "qlora":
            return self._adapter_4bit(name, x, base)
        return self._adapter(name, x, base)

    def _base(self, name: str, x: Variable, weight: Weight) -> Variable:
        if self.structure.regime == "qlora":
            return self.ops.linear_4bit(name, x, weight)
        return self._linear(name, x, weight)

    def _adapter(self, name: str, x: Variable, base: Weight) -> Variable:
        """peft.tuners.lora.layer.Linear.forward: base + B(A(x)) * scaling."""
        result = self._base(name, x, base)
        x = self.ops.cast(x, base.d_in, self.structure.trained)
        return self.ops.add(result, self._update(name, x, base), base.d_out)

    def _adapter_4bit(self, name: str, x: Variable, base: Weight) -> Variable:
        """peft.tuners.lora.bnb.Linear4bit.forward: the same with a defensive clone of the base's result."""
        result = self._base(name, x, base)
        result = self.ops.clone(result, base.d_out)
        if self.kernels.peft_casts_4bit_input or not self.structure.autocast:
            x = self.ops.cast(x, base.d_in, self.structure.trained)
        return self.ops.add(result, self._update(name, x, base), base.d_out)

    def _update(self, name: str, x: Variable, base: Weight) -> Variable:
        down = Weight(base.d_in, self.sizes.rank, self.structure.trained, True)
        up = Weight(self.sizes.rank, base.d_out, self.structure.trained, True)
        return self.ops.scale(self._linear(f"{name} B", self._linear(f"{name} A", x, down), up), base.d_out)
