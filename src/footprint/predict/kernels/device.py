"""What differs between devices: statistics, workspaces and temporaries of the kernels behind the operators (bytes)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from footprint.predict.shadow import Storage
from footprint.predict.tape import Size
from footprint.spec.run import RunSpec

Allocate = Callable[[str, Size], Storage]
"""Makes a tensor of the shadow from its name and bytes; it lives as long as the storage is referred to."""


Keep = Callable[[str, Size], None]
"""Makes the gradient of a parameter."""

Made = TypeVar("Made")


class AttentionShape(NamedTuple):
    """What an attention kernel is called with: elements along each dimension, and bytes of an element."""

    batch: Size
    seq: Size
    heads: Size
    kv_heads: Size
    head_width: Size
    element: Size

    @property
    def queries(self) -> Size:
        """Bytes of the queries, as of the output."""
        return self.batch * self.seq * self.heads * self.head_width * self.element

    @property
    def keys(self) -> Size:
        """Bytes of the keys, as of the values."""
        return self.batch * self.seq * self.kv_heads * self.head_width * self.element

    @property
    def operands(self) -> tuple[Size, Size, Size]:
        """Bytes of queries, keys and values."""
        return self.queries, self.keys, self.keys


class Kernels(Protocol):
    """A device's kernels, each term named after the tensor it stands for. None means no allocation at all."""

    peft_casts_4bit_input: bool
    """Whether PEFT's 4-bit layer copies its input to the adapter's dtype although autocast is on."""

    fuses_rms_norm: bool
    """Whether RMSNorm is one kernel or a composition of elementwise operators."""

    norms_in_full_under_autocast: bool
    """Whether autocast runs normalization in fp32."""

    workspace: int
    """Bytes that each thread's handle of the library of products keeps from PyTorch's allocator, from its first product
    on."""

    chooses_attention: bool
    """Whether the shape of heads and batch decides which attention kernel runs, and how its operands are laid out."""

    casts_attention: bool
    """Whether autocast hands attention its operands in half precision."""

    reorders_kept_result: bool
    """Whether flash attention's backward copies a result that does not have tokens before heads."""

    number: int
    """Bytes of a Python number made into a tensor; 0 where it stays on the host."""

    casts_operands: bool
    """Whether an elementwise operator first copies a narrower operand to the wider dtype."""

    keeps_nested_scales: bool
    """Whether 4-bit products hold the scales of double quantization twice: before and after their offset is added."""

    def number_cast(self, element: Size) -> Size:
        """Bytes of that tensor cast to the other operand's dtype."""

    def statistic(self, element: Size) -> Size:
        """Bytes of one LayerNorm statistic (mean or reciprocal deviation); `element` is that of input or parameters."""

    def norm_gradients(
        self,
        rows: Size,
        width: Size,
        element: Size,
        names: Sequence[str],
        laid_out: Size,
        allocate: Allocate,
        keep: Keep,
    ) -> None:
        """The gradients of a norm's parameters, which `keep` allocates, and what summing them over rows takes.

        `laid_out` is what the arriving gradient takes where it must first be copied, else 0.
        """

    def matmul(
        self, m: Size, k: Size, n: Size, element: Size, *, a_transposed: bool = False, b_transposed: bool = False
    ) -> Size | None:
        """Workspace of an (m, k) @ (k, n) product."""

    def whole_sum(self, elements: Size, allocate: Allocate) -> None:
        """What summing all elements of a tensor takes beside its result."""

    def column_sum(self, rows: Size, columns: Size, allocate: Allocate) -> None:
        """What summing the columns of a (rows, columns) matrix takes beside its result."""

    def embedding_gradient(
        self, tokens: Size, vocab: Size, width: Size, element: Size, allocate: Allocate, make: Callable[[], Made]
    ) -> Made:
        """The gradient of a (vocab, width) table, which `make` allocates, and what it takes before and after."""

    def splitting(self, ranks: int, shards: Sequence[Size]) -> Size:
        """What copying a buffer apart takes that holds shards of so many bytes of several tensors, rank by rank."""

    def joining(self, ranks: int, rows: Sequence[Size], shards: Sequence[Size], allocate: Allocate) -> None:
        """What joining tensors shard by shard takes: with so many rows, and bytes in the largest shard of each."""

    def multiplies_packed(self, tokens: Size, d_in: Size, d_out: Size, element: Size) -> Size:
        """1 where a product takes the packed 4-bit matrix, 0 where that is made dense first."""

    def attention(self, spec: RunSpec) -> str:
        """Which kernel a run's attention takes: `flash`, `padded` (the same on wider heads), `efficient` or `math`."""

    def attention_forward(
        self, kind: str, shape: AttentionShape, allocate: Allocate, *, trained: bool
    ) -> list[Storage]:
        """What an attention kernel takes beside its output; returns what it keeps for backward, if any is `trained`."""

    def attention_backward(self, kind: str, shape: AttentionShape, allocate: Allocate) -> None:
        """What its backward takes beside the gradients of queries, keys and values."""
