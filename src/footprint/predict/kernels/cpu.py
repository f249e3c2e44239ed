"""PyTorch's native CPU kernels."""

from collections.abc import Callable, Sequence

from footprint.predict.arithmetic import minimum, where
from footprint.predict.kernels.device import Allocate, AttentionShape, Keep, Made
from footprint.predict.onednn import attention_backward_scratch, matmul_scratch
from footprint.predict.shadow import Storage
from footprint.predict.tape import Size
from footprint.spec.precision import FULL, HALF
from footprint.spec.run import RunSpec


class CpuKernels:
    """PyTorch's native CPU kernels with a fixed number of threads."""

    peft_casts_4bit_input = True  # it asks torch.is_autocast_enabled(), which speaks of CUDA only
    fuses_rms_norm = False
    norms_in_full_under_autocast = False
    workspace = 0
    number = 8
    chooses_attention = False
    reorders_kept_result = False
    casts_attention = False
    casts_operands = True  # TensorIterator.cpp does so on the CPU only
    keeps_nested_scales = False

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def number_cast(self, element: Size) -> Size:
        """The CPU's elementwise operators cast a scalar operand first (TensorIterator.cpp)."""
        return element

    def statistic(self, element: Size) -> Size:
        """Statistics have the wider dtype of input and parameters (layer_norm_kernel.cpp, param_scalar_type)."""
        return element

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
        """Two rows per thread in the parameters' dtype (layer_norm_kernel.cpp, LayerNormBackwardKernelImplInternal)."""
        for name in names:
            keep(name, width * element)
        sums = allocate("norm partial sums", 2 * self.threads * width * element)
        del sums

    def matmul(
        self, m: Size, k: Size, n: Size, element: Size, *, a_transposed: bool = False, b_transposed: bool = False
    ) -> Size | None:
        """MKL's fp32 products take nothing from PyTorch's allocator; oneDNN's half products take a scratchpad."""
        if element == FULL:
            return None
        return matmul_scratch(m, k, n, a_transposed=a_transposed, b_transposed=b_transposed, threads=self.threads)

    def whole_sum(self, elements: Size, allocate: Allocate) -> None:
        """Nothing."""

    def column_sum(self, rows: Size, columns: Size, allocate: Allocate) -> None:
        """Nothing."""

    def embedding_gradient(
        self, tokens: Size, vocab: Size, width: Size, element: Size, allocate: Allocate, make: Callable[[], Made]
    ) -> Made:
        """Nothing but itself."""
        return make()

    def splitting(self, ranks: int, shards: Sequence[Size]) -> Size:
        """Nothing: tensors are copied one by one."""
        return 0

    def joining(self, ranks: int, rows: Sequence[Size], shards: Sequence[Size], allocate: Allocate) -> None:
        """A padded copy of every tensor whose rows make no equal shards (TensorShape.cpp, _pad_chunk)."""
        sizes = (where(of % ranks > 0, shard * ranks, 0) for of, shard in zip(rows, shards, strict=True))
        padded = [allocate("padded gradient", size) for size in sizes]
        del padded

    def multiplies_packed(self, tokens: Size, d_in: Size, d_out: Size, element: Size) -> Size:
        """Never in training."""
        return 0

    def attention(self, spec: RunSpec) -> str:
        """There is one."""
        return "flash"

    def attention_forward(
        self, kind: str, shape: AttentionShape, allocate: Allocate, *, trained: bool
    ) -> list[Storage]:
        """Scores, their row maximum and sum, and the output of one query block per thread; half scores besides.

        One fp32 log-sum-exp per query and head is kept. Source: FlashAttentionKernel.cpp, cpu_flash_attention.
        """
        log_sum_exp = allocate("log-sum-exp", shape.batch * shape.seq * shape.heads * FULL)
        queries, keys = self._blocks(shape.seq)
        per_thread = queries * keys + 2 * queries + queries * shape.head_width
        sizes = [self.threads * per_thread * FULL]
        if shape.element == HALF:
            sizes.append(self.threads * queries * keys * HALF)
        buffers = [allocate("attention buffer", size) for size in sizes]
        del buffers
        return [log_sum_exp]

    def attention_backward(self, kind: str, shape: AttentionShape, allocate: Allocate) -> None:
        """Scores and their gradients per thread, the same in half, and the calling thread's row sums.

        Source: FlashAttentionKernel.cpp, cpu_flash_attention_backward.
        """
        queries, keys = self._blocks(shape.seq)
        scores = 2 * self.threads * queries * keys
        sizes = [scores * FULL, queries * FULL]
        if shape.element == HALF:
            products = attention_backward_scratch(shape.seq, shape.head_width, threads=self.threads)
            sizes += [scores * HALF, products]
        buffers = [allocate("attention buffer", size) for size in sizes]
        del buffers

    @staticmethod
    def _blocks(seq: Size) -> tuple[Size, Size]:
        """Query and key rows of one block (FlashAttentionKernel.cpp chooses by sequence length)."""
        queries = where(seq >= 768, 256, where(seq >= 192, 64, 32))
        return minimum(queries, seq), minimum(512, seq)
