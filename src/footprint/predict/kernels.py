"""What differs between devices: statistics, workspaces and temporaries of the kernels behind the operators (bytes)."""

from functools import cache
from typing import Protocol

import numpy as np

from footprint.predict.onednn import attention_backward_scratch, matmul_scratch
from footprint.predict.tape import Size
from footprint.spec.precision import FULL, HALF
from footprint.spec.training import TrainingSpec

CUBLAS_WORKSPACE = 2 * 4096 * 2**10 + 8 * 16 * 2**10
"""Bytes one cuBLAS handle takes from PyTorch's allocator (`:4096:2:16:8`, which the recorder sets so that every card
takes the same; cublasLt shares it). The forward thread and autograd's thread have a handle each."""


class Kernels(Protocol):
    """A device's kernels, each term named after the tensor it stands for. None means no allocation at all."""

    peft_casts_4bit_input: bool
    """Whether PEFT's 4-bit layer copies its input to the adapter's dtype although autocast is on."""

    fuses_rms_norm: bool
    """Whether RMSNorm is one kernel or a composition of elementwise operators."""

    norms_in_full_under_autocast: bool
    """Whether autocast runs normalization in fp32."""

    granularity: int
    """The allocator rounds every request up to a multiple of this many bytes."""

    held: int
    """Bytes a library keeps from PyTorch's allocator for the whole process."""

    number: int
    """Bytes of a Python number made into a tensor; 0 where it stays on the host."""

    casts_operands: bool
    """Whether an elementwise operator first copies a narrower operand to the wider dtype."""

    keeps_nested_scales: bool
    """Whether 4-bit products hold the scales of double quantization twice: before and after their offset is added."""

    attention_seeds: tuple[int, ...]
    """Bytes of the state of a random generator that attention keeps for backward, dropout or not."""

    def number_cast(self, element: Size) -> Size:
        """Bytes of that tensor cast to the other operand's dtype."""

    def statistic(self, element: Size) -> Size:
        """Bytes of one LayerNorm statistic (mean or reciprocal deviation) of one token."""

    def norm_partial_sums(self, width: Size, element: Size) -> Size | None:
        """LayerNorm's backward reduces the weight's and the bias's gradient through partial sums."""

    def matmul(
        self, m: Size, k: Size, n: Size, element: Size, *, a_transposed: bool = False, b_transposed: bool = False
    ) -> Size | None:
        """Workspace of an (m, k) @ (k, n) product."""

    def attention_forward(self, batch: Size, seq: Size, heads: Size, head_width: Size, element: Size) -> list[Size]:
        """Buffers of the attention kernel, all live together."""

    def attention_backward(
        self, batch: Size, seq: Size, heads: Size, kv_heads: Size, head_width: Size, element: Size
    ) -> list[Size]:
        """Buffers of the attention backward kernel, all live together."""


class CpuKernels:
    """PyTorch's native CPU kernels with a fixed number of threads."""

    peft_casts_4bit_input = True  # it asks torch.is_autocast_enabled(), which speaks of CUDA only
    fuses_rms_norm = False
    norms_in_full_under_autocast = False
    granularity = 1
    held = 0
    number = 8
    attention_seeds = ()
    casts_operands = True  # TensorIterator.cpp does so on the CPU only
    keeps_nested_scales = False

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def number_cast(self, element: Size) -> Size:
        """The CPU's elementwise operators cast a scalar operand first (TensorIterator.cpp)."""
        return element

    def statistic(self, element: Size) -> Size:
        """The CPU kernel keeps statistics in the input's dtype (layer_norm_kernel.cpp)."""
        return element

    def norm_partial_sums(self, width: Size, element: Size) -> Size:
        """Two rows per thread in the parameters' dtype (layer_norm_kernel.cpp, LayerNormBackwardKernelImplInternal)."""
        return 2 * self.threads * width * element

    def matmul(
        self, m: Size, k: Size, n: Size, element: Size, *, a_transposed: bool = False, b_transposed: bool = False
    ) -> Size | None:
        """MKL's fp32 products take nothing from PyTorch's allocator; oneDNN's half products take a scratchpad."""
        if element == FULL:
            return None
        return matmul_scratch(m, k, n, a_transposed=a_transposed, b_transposed=b_transposed, threads=self.threads)

    def attention_forward(self, batch: Size, seq: Size, heads: Size, head_width: Size, element: Size) -> list[Size]:
        """Scores, their row maximum and sum, and the output of one query block per thread; half scores besides.

        Source: FlashAttentionKernel.cpp, cpu_flash_attention.
        """
        queries, keys = self._blocks(seq)
        per_thread = queries * keys + 2 * queries + queries * head_width
        buffers = [self.threads * per_thread * FULL]
        return [*buffers, self.threads * queries * keys * HALF] if element == HALF else buffers

    def attention_backward(
        self, batch: Size, seq: Size, heads: Size, kv_heads: Size, head_width: Size, element: Size
    ) -> list[Size]:
        """Scores and their gradients per thread, the same in half, and the calling thread's row sums.

        Source: FlashAttentionKernel.cpp, cpu_flash_attention_backward.
        """
        queries, keys = self._blocks(seq)
        scores = 2 * self.threads * queries * keys
        buffers = [scores * FULL, queries * FULL]
        if element == HALF:
            products = attention_backward_scratch(seq, head_width, threads=self.threads)
            buffers += [scores * HALF, products]
        return buffers

    @staticmethod
    def _blocks(seq: Size) -> tuple[Size, Size]:
        """Query and key rows of one block (FlashAttentionKernel.cpp chooses by sequence length)."""
        queries = np.where(seq >= 768, 256, np.where(seq >= 192, 64, 32))
        return np.minimum(queries, seq), np.minimum(512, seq)


class CudaKernels:
    """PyTorch's CUDA kernels, from their sources and yet to be measured, with the settings of `measure.trace.cuda`
    and without cuDNN's attention (`train.regimes`).

    With `granularity` 512 sizes are what `max_memory_allocated` counts, with 1 what was requested. Left out: what
    attention takes in fp32 (the memory-efficient kernel's workspace; with grouped queries the whole score matrix), the
    partial results flash attention splits long keys of small batches into, the sorting in the token embedding's
    backward above 3,072 tokens, partial sums of norms above 65,536, the tensors of fp16's loss scaling, and that
    bitsandbytes multiplies few tokens without dequantizing a matrix.
    """

    peft_casts_4bit_input = False
    fuses_rms_norm = True
    norms_in_full_under_autocast = True  # layer_norm is on autocast's fp32 list; rms_norm since 2.12 (autocast_mode.h)
    held = 2 * CUBLAS_WORKSPACE
    number = 0  # a scalar operand is a kernel argument
    attention_seeds = (16, 8)  # flash_api.cpp, mha_fwd: rng_state and a placeholder
    casts_operands = False
    keeps_nested_scales = True

    def __init__(self, granularity: int = 512) -> None:
        self.granularity = granularity

    def number_cast(self, element: Size) -> Size:
        """Nothing: a scalar operand is a kernel argument."""
        return 0

    def statistic(self, element: Size) -> Size:
        """Statistics are fp32 (layer_norm_kernel.cu)."""
        return FULL

    def norm_partial_sums(self, width: Size, element: Size) -> Size | None:
        """Reduced within thread blocks up to 65,536 tokens (layer_norm_kernel.cu)."""
        return None

    def matmul(
        self, m: Size, k: Size, n: Size, element: Size, *, a_transposed: bool = False, b_transposed: bool = False
    ) -> Size | None:
        """cuBLAS works in a workspace it keeps (`held`)."""
        return None

    def attention_forward(self, batch: Size, seq: Size, heads: Size, head_width: Size, element: Size) -> list[Size]:
        """Nothing beyond output and log-sum-exp (flash_api.cpp, mha_fwd)."""
        return []

    def attention_backward(
        self, batch: Size, seq: Size, heads: Size, kv_heads: Size, head_width: Size, element: Size
    ) -> list[Size]:
        """Row sums, the query gradient accumulated in fp32, and keys' and values' gradients expanded to every head.

        Source: flash_api.cpp, mha_bwd: sequences are rounded to 128 rows, heads to 32 elements.
        """
        rows = -(-seq // 128) * 128
        columns = -(-head_width // 32) * 32
        expanded = np.where(kv_heads < heads, batch * seq * heads * head_width * element, 0)
        return [
            batch * heads * rows * FULL,
            batch * rows * heads * columns * FULL,
            expanded,
            expanded,
        ]


@cache
def kernels_for(device: str, training: TrainingSpec) -> Kernels:
    """The kernels of a device, with sizes as its allocator counts them."""
    return CpuKernels(training.threads) if device == "cpu" else CudaKernels()
