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
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of the first `width` elements of every head, in the
    half-split form of LLaMA."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("cos", torch.empty(positions, width))
        self.register_buffer("sin", torch.empty(positions, width))

    @torch.no_grad()
    def reset(self) -> None:
        """Fill the tables (positions, width) in place, in the dtype they have."""
        positions = torch.arange(self.cos.shape[0], device=self.cos.device, dtype=torch.float32)
        pairs = torch.arange(0, self.width, 2, device=self.cos.device, dtype=torch.float32)
        angles = torch.outer(positions, 10000.0 ** (-pairs / self.width)).repeat(1, 2)
        self.cos.copy_(angles.cos())
        self.sin.copy_(angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        """Rotate queries or keys of shape (B, heads, S, d)."""
        if self.width == x.shape[3]:
            return self._turned(x)
        turning, staying = x.split((self.width, x.shape[3] - self.width), dim=-1)
        return torch.cat((self._turned(turning), staying), dim=-1)

    def _turned(self, x: Tensor) -> Tensor:
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention with four separate projections, so that adapters can be put on each."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = spec.heads, spec.kv_heads, spec.head_width
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, _linear(spec, name))
        self.norm_of_heads = spec.qk_norm == "head"
        if spec.qk_norm != "none":
            widths = (spec.head_width,) * 2 if self.norm_of_heads else (spec.attention_width, spec.kv_width)
            self.q_norm, self.k_norm = (nn.RMSNorm(width, eps=1e-5) for width in widths)

    def _heads(self, name: str, x: Tensor, heads: int) -> Tensor:
        """Queries, keys or values of shape (B, heads, S, d)."""
        norm = getattr(self, f"{name}_norm", nn.Identity())
        x = getattr(self, f"{name}_proj")(x)
        x = x if self.norm_of_heads else norm(x)
        x = x.view(*x.shape[:2], heads, self.head_width)
        x = norm(x) if self.norm_of_heads else x
        return x.transpose(1, 2)

    def forward(self, x: Tensor, rotary: Rotary | None) -> Tensor:
        B, S, _ = x.shape
        q, k, v = (
            self._heads(name, x, n) for name, n in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads))
        )
        if rotary is not None:
            q, k = rotary(q), rotary(k)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.kv_heads != self.heads)
        return self.o_proj(y.transpose(1, 2).reshape(B, S, self.heads * self.head_width))


ACTIVATIONS = {"gelu": functional.gelu, "relu": functional.relu}


class PlainMLP(nn.Module):
    """H -> mlp_width -> H with GELU or ReLU between."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.mlp]
        self.up_proj, self.down_proj = _linear(spec, "up_proj"), _linear(spec, "down_proj")

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.up_proj(x)))


class SwiGLU(nn.Module):
    """H -> mlp_width twice, one gated by SiLU of the other, -> H (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(self, name, _linear(spec, name))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def _linear(spec: ModelSpec, name: str) -> nn.Linear:
    return nn.Linear(*spec.linears[name], bias=name in spec.biased)


def _norm(spec: ModelSpec) -> nn.Module:
    return nn.LayerNorm(spec.width) if spec.norm == "layer" else nn.RMSNorm(spec.width, eps=1e-5)


class Block(nn.Module):
    """Attention and MLP beside the residual stream; where their norms stand says `residual` of the spec."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.residual = spec.residual
        self.attention_norm = _norm(spec)
        self.attention = Attention(spec)
        self.mlp_norm = _norm(spec)
        self.mlp = SwiGLU(spec) if spec.mlp == "swiglu" else PlainMLP(spec)

    def forward(self, x: Tensor, rotary: Rotary | None) -> Tensor:
        if self.residual == "parallel":
            return x + self.attention(self.attention_norm(x), rotary) + self.mlp(self.mlp_norm(x))
        if self.residual == "after":
            x = x + self.attention_norm(self.attention(x, rotary))
            return x + self.mlp_norm(self.mlp(x))
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
        self.positions = nn.Embedding(positions, spec.width) if spec.positions == "learned" else None
        self.rotary = Rotary(positions, spec.rotary_width) if spec.positions == "rotary" else None
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = _norm(spec)
        self.head = nn.Linear(spec.width, spec.vocab, bias=False)
        if spec.tied_head:
            self.head.weight = self.tokens.weight

    @property
    def parts(self) -> list[str]:
        """The modules that hold every tensor, by name, in the order they are registered."""
        found = []
        for name, module in self.named_children():
            found += [f"{name}.{number}" for number, _ in enumerate(module)] if module is self.blocks else [name]
        return found

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
