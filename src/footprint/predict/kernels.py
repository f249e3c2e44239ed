"""What differs between devices: statistics, workspaces and temporaries of the kernels behind the operators (bytes)."""

from functools import cache
from typing import Protocol

import numpy as np

from footprint.precision import FULL, HALF
from footprint.predict.onednn import attention_backward_scratch, matmul_scratch
from footprint.predict.shadow import Size
from footprint.spec import TrainingSpec


class Kernels(Protocol):
    """A device's kernels, each term named after the tensor it stands for. None means no allocation at all."""

    peft_casts_4bit_input: bool
    """Whether PEFT's 4-bit layer copies its input to the adapter's dtype although autocast is on."""

    fuses_rms_norm: bool
    """Whether RMSNorm is one kernel or a composition of elementwise operators."""

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

    def attention_backward(self, batch: Size, seq: Size, heads: Size, head_width: Size, element: Size) -> list[Size]:
        """Buffers of the attention backward kernel, all live together."""


class CpuKernels:
    """PyTorch's native CPU kernels with a fixed number of threads."""

    peft_casts_4bit_input = True  # it asks torch.is_autocast_enabled(), which speaks of CUDA only
    fuses_rms_norm = False

    def __init__(self, threads: int) -> None:
        self.threads = threads

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
        return buffers + [self.threads * queries * keys * HALF] if element == HALF else buffers

    def attention_backward(self, batch: Size, seq: Size, heads: Size, head_width: Size, element: Size) -> list[Size]:
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


@cache
def kernels_for(device: str, training: TrainingSpec) -> Kernels:
    """The kernels of a device."""
    return CpuKernels(training.threads)
