"""PyTorch's CUDA kernels on a named card, with the settings of `measure.trace.cuda` and without cuDNN's attention."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from footprint.predict.arithmetic import call_each, maximum, minimum, where
from footprint.predict.kernels.device import Allocate, AttentionShape, Keep, Made
from footprint.predict.kernels.embedding import Sorting, sorting
from footprint.predict.kernels.four_bit import multiplies_packed
from footprint.predict.kernels.gathering import joining, splitting
from footprint.predict.kernels.reduction import partial_sums, whole_sums
from footprint.predict.shadow import Storage
from footprint.predict.tape import Size
from footprint.spec.cards import Card
from footprint.spec.precision import FULL, HALF, PRECISIONS
from footprint.spec.run import RunSpec

CUBLAS_WORKSPACE = 2 * 4096 * 2**10 + 8 * 16 * 2**10
"""Bytes one cuBLAS handle takes from PyTorch's allocator (`:4096:2:16:8`, which the recorder sets so that every card
takes the same; cublasLt shares it). The forward thread and autograd's thread have a handle each."""

FLASH_ALIGNMENT = 8
"""Elements the width of a head must be a multiple of for flash attention (attention.cpp, pad_last_dim)."""

SEEDS = 16, 8
"""Bytes of the state of a random generator that flash attention keeps, dropout or not (flash_api.cpp, mha_fwd)."""


@dataclass(frozen=True)
class CudaKernels:
    """The kernels of one card, for one half-precision type. Sizes are requested bytes."""

    card: Card
    half: str

    peft_casts_4bit_input = False
    fuses_rms_norm = True
    norms_in_full_under_autocast = True  # layer_norm is on autocast's fp32 list; rms_norm since 2.12 (autocast_mode.h)
    workspace = CUBLAS_WORKSPACE
    number = 0  # a scalar operand is a kernel argument
    chooses_attention = True
    reorders_kept_result = True
    casts_attention = True
    casts_operands = False
    keeps_nested_scales = True

    def number_cast(self, element: Size) -> Size:
        """Nothing: a scalar operand is a kernel argument."""
        return 0

    def statistic(self, element: Size) -> Size:
        """Statistics are fp32 (layer_norm_kernel.cu)."""
        return FULL

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
        """Of many rows some partial sums, which are summed into new gradients (layer_norm_kernel.cu)."""
        size, sums = width * element, call_each(self._norm_sums, rows, width)
        partial = minimum(sums, 1)
        replaced = []
        for name in names:
            keep(name, size * (1 - partial))
            replaced.append(allocate("gradient to be replaced", size * partial))
        copy = allocate("gradient laid out", laid_out)
        buffers = [allocate("rows of partial sums", sums * size) for _ in names]
        for name in names:
            keep(name, size * partial)
            self.column_sum(sums, width, allocate)
            del replaced[0]
        del buffers, copy

    def _norm_sums(self, rows: int, width: int) -> int:
        """Partial sums: one for 32 rows, of a million elements in all; 0 where thread blocks reduce alone."""
        if rows <= 2**16 or width // 32 >= self.card.multiprocessors // 2:
            return 0
        return min(-(-rows // 32), 2**20 // (-(-width // 32) * 32))

    def matmul(
        self, m: Size, k: Size, n: Size, element: Size, *, a_transposed: bool = False, b_transposed: bool = False
    ) -> Size | None:
        """cuBLAS works in a workspace it keeps (`workspace`)."""
        return None

    def multiplies_packed(self, tokens: Size, d_in: Size, d_out: Size, element: Size) -> Size:
        """Of few tokens (kernels/four_bit.py)."""
        return call_each(self._packed, tokens, d_in, d_out, element)

    def _packed(self, tokens: int, d_in: int, d_out: int, element: int) -> bool:
        dtype = "fp32" if element == FULL else self.half
        return multiplies_packed(self.card.generation, self.card.multiprocessors, dtype, tokens, d_in, d_out)

    def column_sum(self, rows: Size, columns: Size, allocate: Allocate) -> None:
        """Partial sums of thread blocks that share a column, and a semaphore for each (Reduce.cuh, setReduceConfig)."""
        buffer = allocate("partial sums", call_each(self._partial_sums, rows, columns, 0))
        semaphores = allocate("semaphores", call_each(self._partial_sums, rows, columns, 1))
        del buffer, semaphores

    def whole_sum(self, elements: Size, allocate: Allocate) -> None:
        """The same for the sum of all elements."""
        buffer = allocate("partial sums", call_each(self._whole_sums, elements))
        semaphore = allocate("semaphore", minimum(call_each(self._whole_sums, elements), FULL))
        del buffer, semaphore

    def _whole_sums(self, elements: int) -> int:
        return whole_sums(self.card, elements)

    def _partial_sums(self, rows: int, columns: int, which: int) -> int:
        return partial_sums(self.card, rows, columns)[which]

    def embedding_gradient(
        self, tokens: Size, vocab: Size, width: Size, element: Size, allocate: Allocate, make: Callable[[], Made]
    ) -> Made:
        """Many rows are sorted by token first (kernels/embedding.py)."""
        sizes = {
            field.name: call_each(self._sorting, tokens, vocab, width, element, field.name) for field in fields(Sorting)
        }

        def take(name: str, count: int = 1) -> list[Storage]:
            return [allocate(f"sorted embedding: {name}", sizes[name]) for _ in range(count)]

        ordered, scratch = take("indices", 2), take("indices")
        scratch += take("sort")
        del scratch
        made = make()
        begins = take("indices") + take("counter")
        scratch = take("indices") + take("firsts")
        del scratch
        pieces_of = take("segments", 2)
        scratch = take("sum")
        del scratch
        rest = [take(name) for name in ("counter", "pieces", "token_of_piece", "sums")]
        del rest, pieces_of, begins, ordered
        return made

    def _sorting(self, tokens: int, vocab: int, width: int, element: int, name: str) -> int:
        return getattr(sorting(self.card, tokens, vocab, width, element), name)

    def splitting(self, ranks: int, shards: Sequence[Size]) -> Size:
        """What the kernel is told (kernels/gathering.py)."""
        return call_each(self._splitting, ranks, *shards)

    def joining(self, ranks: int, rows: Sequence[Size], shards: Sequence[Size], allocate: Allocate) -> None:
        """What the kernel is told (kernels/gathering.py)."""
        told = allocate("addresses", call_each(joining, *shards))
        del told

    def _splitting(self, ranks: int, *shards: int) -> int:
        return splitting(self.card, ranks, *shards)

    # --- attention: sdp_utils.cpp chooses the kernel -----------------------------------------------------------------

    def attention(self, spec: RunSpec) -> str:
        """Flash attention where it can, else the memory-efficient kernel where it can, else plain operators.

        Flash attention's operands are `padded` first where heads are not a multiple of 8 elements wide.
        """
        model, precision = spec.model, PRECISIONS[spec.precision]
        halved = precision.autocast or (precision.trained if spec.regime == "full" else precision.base) == HALF
        new = self.card.generation >= (8, 0)
        # check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120
        narrow = model.head_width <= 192 or self.card.generation not in ((8, 6), (8, 9), (12, 0), (12, 1))
        if halved and new and model.head_width <= 256 and (narrow or model.head_width > 224):
            return "flash" if model.head_width % FLASH_ALIGNMENT == 0 else "padded"
        grouped = model.kv_heads != model.heads  # check_batch_size_and_num_heads_dense
        known = new or self.half == "fp16" or not halved
        if grouped or not known or model.head_width % self._alignment(halved=halved):
            return "math"
        return "efficient"

    def _alignment(self, *, halved: bool) -> int:
        """Elements the width of a head must be a multiple of (sdp_utils.cpp, minimum_gemm_alignment)."""
        if halved:
            return 8
        return 4 if self.card.generation >= (8, 0) else 1

    def attention_forward(
        self, kind: str, shape: AttentionShape, allocate: Allocate, *, trained: bool
    ) -> list[Storage]:
        """Beside the output a log-sum-exp is kept, by flash attention what its random generator was as well."""
        if kind == "efficient":
            return self._efficient_forward(shape, allocate, trained=trained)
        log_sum_exp = allocate("log-sum-exp", shape.batch * shape.seq * shape.heads * FULL)
        splits = call_each(self._splits, *shape[:3], shape.head_width)
        partial = (splits > 1) * splits * shape.batch * shape.heads * shape.seq * FULL
        partial_sums = allocate("log-sum-exp of every split", partial)
        partial_outputs = allocate("output of every split", partial * _flash_columns(shape.head_width))
        seeds = [allocate("attention seed", size) for size in SEEDS]
        del partial_sums, partial_outputs
        return [log_sum_exp, *seeds]

    def _splits(self, batch: int, seq: int, heads: int, head_width: int) -> int:
        """Pieces that few queries have their keys cut into: the fewest that fill the card nearly as well as any.

        Source: flash_api.cpp, set_params_splitkv and num_splits_heuristic.
        """
        columns = 256 if head_width <= 64 else 128 if head_width <= 128 else 64
        blocks, tasks = -(-seq // columns), batch * heads * -(-seq // 64)
        places = 2 * self.card.multiprocessors
        if tasks >= 0.8 * places:
            return 1
        different = [
            n for n in range(1, min(128, places, blocks) + 1) if n == 1 or -(-blocks // n) != -(-blocks // (n - 1))
        ]
        efficiency = {n: tasks * n / places / -(-tasks * n // places) for n in different}
        return next(n for n in different if efficiency[n] >= 0.85 * max(efficiency.values()))

    @staticmethod
    def _efficient_forward(shape: AttentionShape, allocate: Allocate, *, trained: bool) -> list[Storage]:
        """The log-sum-exp of 32 queries at a time; wide half-precision heads accumulate their output in fp32."""
        rows = -(-shape.seq // 32) * 32
        log_sum_exp = allocate("log-sum-exp", shape.batch * shape.heads * rows * FULL * trained)
        accumulated = (shape.head_width > 128) * shape.queries * (FULL // HALF) if shape.element == HALF else 0
        output = allocate("accumulated output", accumulated)
        del output
        return [log_sum_exp]

    def attention_backward(self, kind: str, shape: AttentionShape, allocate: Allocate) -> None:
        """Row sums, and gradients accumulated in fp32."""
        if kind == "efficient":
            self._efficient_backward(shape, allocate)
            return
        # flash_api.cpp, mha_bwd: sequences are rounded to 128 rows, gradients of grouped heads expanded to every head
        rows = -(-shape.seq // 128) * 128
        expanded = where(shape.kv_heads < shape.heads, shape.queries, 0)
        sizes = [
            shape.batch * shape.heads * rows * FULL,
            shape.batch * rows * shape.heads * _flash_columns(shape.head_width) * FULL,
            expanded,
            expanded,
        ]
        buffers = [allocate("attention buffer", size) for size in sizes]
        del buffers

    def _efficient_backward(self, shape: AttentionShape, allocate: Allocate) -> None:
        """Row sums, then a workspace per head (mem_eff_attention/kernel_backward.h, workspace_size)."""
        sums = shape.batch * shape.heads * shape.seq * FULL
        if shape.element == HALF:
            row_sums = allocate("row sums", sums)
        else:
            copied = (shape.heads > 1) * (shape.seq > 1)
            product = allocate("gradient times output", shape.queries)
            transposed = allocate("row sums, transposed", sums * copied)
            row_sums = [allocate("row sums", size) for size in (sums * (1 - copied), sums * copied)]
            del product, transposed
        workspace = allocate("attention workspace", shape.batch * shape.heads * self._workspace_per_head(shape))
        del workspace, row_sums

    def _workspace_per_head(self, shape: AttentionShape) -> Size:
        """Bytes. Gradients of queries in tiles with a lock each; wide heads in half keep those of keys and values too.

        The tiles are those of the kernels that PyTorch ships for each generation (mem_eff_attention/kernels).
        """
        width, wide = shape.head_width, shape.head_width > 128
        new, halved = self.card.generation >= (8, 0), shape.element == HALF
        rows = where(width <= 64, 64, 128 if new or halved else 64)
        columns = where((width > 64) & (width <= 128), 128, 64) if new and halved else 64
        tiles = -(-shape.seq // rows) * -(-width // columns)
        queries = tiles * (16 + rows * columns * FULL)
        if not halved:
            return queries
        pieces = maximum(minimum(-(-shape.seq // 64), 200 // (shape.batch * shape.heads)), 1)
        return queries + wide * 2 * pieces * 64 * (-(-width // 128) * 128) * FULL


def _flash_columns(head_width: Size) -> Size:
    """Elements that flash attention rounds the width of a head up to (flash_api.cpp, head_size_rounded)."""
    columns = where(head_width <= 128, 32, 64)
    return -(-head_width // columns) * columns
