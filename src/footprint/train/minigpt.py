"""MiniGPT: the decoder that is trained, in one readable file.

B batch, S sequence, H width, n heads of width d (H = n d unless the spec says otherwise), V vocabulary.
"""

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from footprint.spec.checkpointing import segment_lengths
from footprint.spec.model import ModelSpec


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864), the half-split form of LLaMA."""

    def __init__(self, positions: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.register_buffer("cos", torch.empty(positions, head_width))
        self.register_buffer("sin", torch.empty(positions, head_width))

    @torch.no_grad()
    def reset(self) -> None:
        """Fill the tables (positions, d) in place, in the dtype they have."""
        positions = torch.arange(self.cos.shape[0], device=self.cos.device, dtype=torch.float32)
        pairs = torch.arange(0, self.head_width, 2, device=self.cos.device, dtype=torch.float32)
        angles = torch.outer(positions, 10000.0 ** (-pairs / self.head_width)).repeat(1, 2)
        self.cos.copy_(angles.cos())
        self.sin.copy_(angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        """Rotate queries or keys of shape (B, heads, S, d)."""
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention with four separate projections, so that adapters can be put on each."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = spec.heads, spec.kv_heads, spec.head_width
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(*spec.linears[name], bias=spec.biases))

    def forward(self, x: Tensor, rotary: Rotary | None) -> Tensor:
        B, S, _ = x.shape
        q = self.q_proj(x).view(B, S, self.heads, self.head_width).transpose(1, 2)  # (B, n, S, d)
        k = self.k_proj(x).view(B, S, self.kv_heads, self.head_width).transpose(1, 2)
        v = self.v_proj(x).view(B, S, self.kv_heads, self.head_width).transpose(1, 2)
        if rotary is not None:
            q, k = rotary(q), rotary(k)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.kv_heads != self.heads)
        return self.o_proj(y.transpose(1, 2).reshape(B, S, self.heads * self.head_width))


class GeluMLP(nn.Module):
    """H -> mlp_width -> H with GELU between."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.up_proj = nn.Linear(*spec.linears["up_proj"])
        self.down_proj = nn.Linear(*spec.linears["down_proj"])

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.gelu(self.up_proj(x)))


class SwiGLU(nn.Module):
    """H -> mlp_width twice, one gated by SiLU of the other, -> H (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(self, name, nn.Linear(*spec.linears[name], bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def _norm(spec: ModelSpec) -> nn.Module:
    return nn.LayerNorm(spec.width) if spec.block == "gpt" else nn.RMSNorm(spec.width, eps=1e-5)


class Block(nn.Module):
    """Pre-norm residual block: attention, then MLP."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.attention_norm = _norm(spec)
        self.attention = Attention(spec)
        self.mlp_norm = _norm(spec)
        self.mlp = GeluMLP(spec) if spec.block == "gpt" else SwiGLU(spec)

    def forward(self, x: Tensor, rotary: Rotary | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotary)
        return x + self.mlp(self.mlp_norm(x))


class MiniGPT(nn.Module):
    """The whole model; build it under `torch.device("meta")` and it costs nothing."""

    def __init__(self, spec: ModelSpec, checkpointing: str = "none", positions: int | None = None) -> None:
        """`positions` are the rows of the position table, the model's context when not given."""
        super().__init__()
        self.spec = spec
        positions = spec.context if positions is None else positions
        self.segments = segment_lengths(spec.layers, checkpointing)
        self.tokens = nn.Embedding(spec.vocab, spec.width)
        self.positions = nn.Embedding(positions, spec.width) if spec.block == "gpt" else None
        self.rotary = Rotary(positions, spec.head_width) if spec.block == "llama" else None
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = _norm(spec)
        self.head = nn.Linear(spec.width, spec.vocab, bias=False)
        if spec.tied_head:
            self.head.weight = self.tokens.weight

    def _segment(self, x: Tensor, start: int, stop: int) -> Tensor:
        for block in self.blocks[start:stop]:
            x = block(x, self.rotary)
        return x

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of `targets` (B, S) given `tokens` (B, S), both int64; a scalar in fp32.

        Only the loss leaves this function, so nothing outside keeps the logits alive.
        """
        x = self.tokens(tokens)  # (B, S, H)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        if self.segments:
            for start, stop in pairwise(accumulate(self.segments, initial=0)):
                # Non-reentrant: the reentrant form drops gradients when x does not require one (frozen embeddings).
                # No dropout in the model, so there is no random state to keep.
                x = checkpoint(self._segment, x, start, stop, use_reentrant=False, preserve_rng_state=False)
        else:
            for block in self.blocks:
                x = block(x, self.rotary)
        logits = self.head(self.norm(x))  # (B, S, V)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


@torch.no_grad()
def initialise(parameter: Tensor, name: str, generator: torch.Generator) -> None:
    """Fill one parameter in place: norms 1, biases 0, everything else N(0, 0.02) drawn in fp32 whatever its dtype."""
    if name.endswith("norm.weight"):
        parameter.fill_(1.0)
    elif name.endswith("bias"):
        parameter.zero_()
    else:
        drawn = torch.empty(parameter.shape, dtype=torch.float32).normal_(0.0, 0.02, generator=generator)
        parameter.copy_(drawn)
