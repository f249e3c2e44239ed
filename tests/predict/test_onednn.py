"""The scratchpad of a bf16 product is the sum of the buffers oneDNN books, and what the allocator hands out."""

import os

import numpy as np
import pytest

from footprint.predict.onednn import attention_backward_scratch, matmul_scratch

PADDING = 128


def forward(m, k, n, threads=2):
    return matmul_scratch(m, k, n, a_transposed=False, b_transposed=True, threads=threads)


def weight_gradient(m, k, n, threads=2):
    return matmul_scratch(m, k, n, a_transposed=True, b_transposed=False, threads=threads)


def addresses(threads=2):
    return threads * 16 * 40 + PADDING


def test_every_thread_gets_a_panel_of_b_and_a_block_of_c():
    panel, block = 64 * 64 * 2, 40 * 64 * 4
    assert forward(80, 64, 64) == addresses() + 2 * panel + PADDING + 2 * block + PADDING


def test_a_weight_gradient_packs_a_as_well():
    a, panel, block = 32 * 96 * 2, 96 * 64 * 2, 32 * 64 * 4
    assert weight_gradient(64, 80, 64) == addresses() + 2 * (a + panel + block) + 3 * PADDING


def test_long_rows_with_a_power_of_two_stride_are_packed_too():
    assert forward(2048, 4096, 64) > 2 * forward(2048, 4095, 64)


def test_threads_that_share_k_keep_all_of_c_each():
    a, panel, c = 256 * (512 + 32) * 2, 512 * 64 * 2, 512 * 64 * 4
    assert weight_gradient(512, 2048, 64, threads=2) == addresses() + 2 * (a + panel + c) + 3 * PADDING


def test_a_tall_product_costs_no_more_than_one_block_of_256_rows():
    assert forward(4096, 768, 768) == forward(8192, 768, 768)


def test_a_column_is_computed_as_a_row():
    assert forward(300, 768, 1) == forward(1, 768, 300)


def test_tiny_products_do_not_reach_onednn():
    assert forward(16, 16, 16) == 0
    assert forward(16, 16, 17) > 0


def test_arrays_give_what_integers_give():
    m, k = np.array([[80], [199]]), np.array([64, 97, 3072])
    expected = [[forward(int(rows), int(depth), 96) for depth in k] for rows in m[:, 0]]
    assert forward(m, k, 96).tolist() == expected
    lengths = np.array([40, 199, 40])
    assert attention_backward_scratch(lengths, 32, threads=2).tolist() == [
        attention_backward_scratch(int(length), 32, threads=2) for length in lengths
    ]


def test_attention_needs_scratch_beside_the_scale_only_where_onednn_runs():
    assert attention_backward_scratch(40, 32, threads=2) == 22144 + 4
    assert attention_backward_scratch(2, 8, threads=2) == 0


@pytest.fixture
def torch():
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    torch = pytest.importorskip("torch")
    if not torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        pytest.skip("derived for AVX512_CORE_BF16 without AMX")
    threads = torch.get_num_threads()
    yield torch
    torch.set_num_threads(threads)


def live(recorder, phase):
    """Positive allocations of the phase, and the most bytes live in it."""
    deltas = [event.delta for event in recorder.stop() if event.phase == phase]
    return [delta for delta in deltas if delta > 0], max(np.cumsum(deltas))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("tokens", [32, 199, 1024])
@pytest.mark.parametrize(("d_in", "d_out"), [(64, 256), (97, 33), (768, 1), (256, 8), (16, 3001)])
def test_the_allocator_hands_out_exactly_the_scratchpad(torch, threads, tokens, d_in, d_out):
    from footprint.measure.trace.cpu import CpuRecorder

    torch.set_num_threads(threads)
    x, weight = torch.zeros(tokens, d_in).bfloat16(), torch.zeros(d_out, d_in).bfloat16()
    bias, gradient = torch.zeros(d_out).bfloat16(), torch.zeros(tokens, d_out).bfloat16()
    products = [
        (forward(tokens, d_in, d_out, threads), lambda: torch.nn.functional.linear(x, weight, bias)),
        (forward(tokens, d_out, d_in, threads), lambda: gradient @ weight),
        (weight_gradient(d_out, tokens, d_in, threads), lambda: gradient.t() @ x),
    ]
    for scratch, product in products:
        recorder = CpuRecorder()
        recorder.start()
        with recorder.phase("product"):
            result = product()
        allocations, _ = live(recorder, "product")
        assert allocations == [result.nbytes] + [scratch] * (scratch > 0)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(
    ("seq", "width", "causal"), [(40, 32, True), (193, 24, True), (600, 63, False), (800, 64, True)]
)
def test_attention_backward_peaks_at_its_largest_product(torch, threads, seq, width, causal):
    from footprint.measure.trace.cpu import CpuRecorder

    torch.set_num_threads(threads)
    recorder = CpuRecorder()
    recorder.start()
    q, k, v, gradient = (torch.randn(2, seq, 2, width).bfloat16().transpose(1, 2) for _ in range(4))
    output, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    with recorder.phase("backward"):
        gradients = backward(gradient, q, k, v, output, logsumexp, 0.0, causal)
    allocations, peak = live(recorder, "backward")
    named = sum(allocations[:6])  # the three gradients, buf, buf_reduced, dsum
    assert len(gradients) == 3
    assert peak - named == attention_backward_scratch(seq, width, threads=threads, causal=causal)
