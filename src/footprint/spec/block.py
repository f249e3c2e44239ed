"""What a transformer block consists of, beside its sizes: which norm, which positions, which MLP, which biases."""

from dataclasses import dataclass

from footprint.spec.checks import one_of

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linears of a block in forward order; only a `swiglu` MLP has a gate_proj."""

CHOICES = {
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary"),
    "mlp": ("gelu", "relu", "swiglu"),
    "biases": ("none", "qkv", "attention", "all"),
    "qk_norm": ("none", "head", "width"),
    "residual": ("before", "after", "parallel"),
}
"""Values of every field of a `Block`."""

BIASED = {"none": (), "qkv": LINEARS[:3], "attention": LINEARS[:4], "all": LINEARS}
"""The Linears that have a bias, by the value of `biases`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A kind of block."""

    norm: str
    """`layer`: LayerNorm, with a weight and a bias. `rms`: RMSNorm, with a weight."""
    positions: str
    """`learned`: a table beside that of the tokens. `rotary`: queries and keys are turned."""
    mlp: str
    """`gelu` or `relu` between two Linears, or `swiglu`: three, one gated by SiLU of another."""
    biases: str
    """Which Linears have one: a key of BIASED."""
    qk_norm: str = "none"
    """RMSNorm of queries and keys: of each `head`, or of all side by side (`width`)."""
    residual: str = "before"
    """Norms stand `before` attention and MLP, `after` them, or before both, which run in `parallel`."""

    def checked(self, where: str) -> "Block":
        """Itself; raises FootprintError for a value that is not among CHOICES. `where` names the model."""
        return Block(**{name: one_of(f"{where}.{name}", getattr(self, name), CHOICES[name]) for name in CHOICES})

    @property
    def norm_parameters(self) -> tuple[str, ...]:
        """The parameters of one of its norms."""
        return ("norm weight", "norm bias") if self.norm == "layer" else ("norm weight",)


STYLES = {
    "gpt": Block(norm="layer", positions="learned", mlp="gelu", biases="all"),
    "llama": Block(norm="rms", positions="rotary", mlp="swiglu", biases="none"),
}
"""Blocks with a name; every field of one may be changed."""
