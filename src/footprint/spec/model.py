"""A model by its sizes, and the Linears of its blocks that can carry adapters."""

import re
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches

from footprint.errors import FootprintError
from footprint.spec.block import BIASED, CHOICES, LINEARS, STYLES, Block
from footprint.spec.checks import one_of, require, whole

BLOCKS = tuple(STYLES)

TARGETS = ("all-linear", "attention", "qv")
"""Sets of Linears with a name; any other set is written as its Linears without `_proj`, joined by `+`: `gate+up`."""
LARGEST_TENSOR = 2**31 - 1
"""Elements of one weight a spec may ask for: kernels with 32-bit indices (cuBLAS, bitsandbytes) stop here."""

LONGEST = 2**24
"""Tokens of the longest context and sequence a spec may ask for."""


def sets_of_linears(values: object) -> list:
    """The values of the axis `targets` in a list: one of Linears only is one set of them, as in PEFT's own configs."""
    several = list(values) if isinstance(values, list | tuple) else [values]
    return [several] if several and all(map(is_linear, several)) else several


def is_linear(value: object) -> bool:
    """Whether this is the name of a Linear, with or without `_proj`."""
    return isinstance(value, str) and f"{value.removesuffix('_proj')}_proj" in LINEARS


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A decoder-only transformer by its sizes (elements, not bytes)."""

    name: str
    layers: int
    width: int
    """Residual stream H."""
    heads: int
    vocab: int
    context: int
    """Rows of the position table. The longest sequence where positions are learned; rotary ones go on beyond it."""
    block: str = "gpt"
    """`gpt`: LayerNorm, learned positions, GELU MLP, biases. `llama`: RMSNorm, rotary, SwiGLU, no biases. What is not
    said below is as there."""
    norm: str | None = None
    positions: str | None = None
    mlp: str | None = None
    biases: str | None = None
    qk_norm: str | None = None
    residual: str | None = None
    """These six are the fields of `spec.block.Block`."""
    kv_heads: int | None = None
    """Key/value heads (grouped-query attention); `heads` when not given."""
    head_width: int | None = None
    """Elements of one attention head; width / heads when not given."""
    rotary_width: int | None = None
    """Elements of a head that are turned; all when not given, 0 where positions are learned."""
    mlp_width: int | None = None
    """Inner width of the MLP; 4 x width when not given."""
    tied_head: bool = False
    """Whether the output projection shares the token embedding's weight."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kv_heads", self.heads if self.kv_heads is None else self.kv_heads)
        if self.mlp_width is None and isinstance(self.width, int):
            object.__setattr__(self, "mlp_width", 4 * self.width)
        where = f"models.{self.name}"
        object.__setattr__(self, "block", one_of(f"{where}.block", self.block, BLOCKS))
        told = {name: getattr(self, name) for name in CHOICES if getattr(self, name) is not None}
        kind = replace(STYLES[self.block], **told).checked(where)
        for name in CHOICES:
            object.__setattr__(self, name, getattr(kind, name))
        whole(f"{where}.layers", self.layers, 1, 1024)
        whole(f"{where}.width", self.width, 1, 65536)
        whole(f"{where}.heads", self.heads, 1, 1024)
        whole(f"{where}.vocab", self.vocab, 2, 2**20)
        whole(f"{where}.context", self.context, 1, LONGEST)
        whole(f"{where}.mlp_width", self.mlp_width, 1, 2**20)
        whole(f"{where}.kv_heads", self.kv_heads, 1, 1024)
        require(isinstance(self.tied_head, bool), f"{where}.tied_head", self.tied_head, "true or false")
        if self.head_width is None:
            divides = self.width % self.heads == 0
            require(divides, f"{where}.heads", self.heads, f"a divisor of width {self.width}, or give head_width")
            object.__setattr__(self, "head_width", self.width // self.heads)
        whole(f"{where}.head_width", self.head_width, 1, 65536)
        require(
            self.heads % self.kv_heads == 0,
            f"{where}.kv_heads",
            self.kv_heads,
            f"a divisor of heads {self.heads}",
        )
        if self.rotary_width is None:
            object.__setattr__(self, "rotary_width", self.head_width if self.positions == "rotary" else 0)
        whole(f"{where}.rotary_width", self.rotary_width, 0, self.head_width)
        if self.positions == "learned":
            require(self.rotary_width == 0, f"{where}.rotary_width", self.rotary_width, "0, or positions: rotary")
        else:
            given = "head_width" if self.rotary_width == self.head_width else "rotary_width"
            pairs = self.rotary_width > 0 and self.rotary_width % 2 == 0
            require(pairs, f"{where}.{given}", self.rotary_width, "an even width per head (rotary pairs)")
        for key, rows in self._rows_of_weights().items():
            most = LARGEST_TENSOR // self.width
            require(
                rows <= most, f"{where}.{key}", rows, f"at most {most}: a weight of width {self.width} has no more rows"
            )

    def _rows_of_weights(self) -> dict[str, int]:
        """Rows of the weights that are as wide as the model, by the size that decides them."""
        positions = {"context": self.context} if self.positions == "learned" else {}
        return {"vocab": self.vocab, "mlp_width": self.mlp_width, "heads": self.attention_width} | positions

    @property
    def longest_seq(self) -> int:
        """The longest sequence the model can be trained on: learned positions end with their table."""
        return self.context if self.positions == "learned" else LONGEST

    @property
    def attention_width(self) -> int:
        """Output elements of the query projection: all heads side by side."""
        return self.head_width * self.heads

    @property
    def kv_width(self) -> int:
        """Output elements of the key (and of the value) projection."""
        return self.head_width * self.kv_heads

    @property
    def grouped_queries(self) -> bool:
        """Whether several queries share a key."""
        return self.kv_heads != self.heads

    @property
    def kind(self) -> Block:
        """What its blocks consist of."""
        return Block(**{name: getattr(self, name) for name in CHOICES})

    @property
    def partly_rotary(self) -> bool:
        """Whether only some elements of a head are turned."""
        return self.positions == "rotary" and self.rotary_width != self.head_width

    @property
    def biased(self) -> tuple[str, ...]:
        """The Linears of a block that have a bias."""
        return tuple(name for name in BIASED[self.biases] if name in self.linears)

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The Linears of one block by name, in forward order: (d_in, d_out)."""
        width, kv_width, mlp_width = self.width, self.kv_width, self.mlp_width
        attention = {
            "q_proj": (width, self.attention_width),
            "k_proj": (width, kv_width),
            "v_proj": (width, kv_width),
            "o_proj": (self.attention_width, width),
        }
        gate = {"gate_proj": (width, mlp_width)} if self.mlp == "swiglu" else {}
        return attention | gate | {"up_proj": (width, mlp_width), "down_proj": (mlp_width, width)}

    def adapted(self, targets: str) -> tuple[str, ...]:
        """Names of the block's Linears that carry an adapter for an axis value of `targets`."""
        if targets == "none":
            return ()
        named = {"all-linear": tuple(self.linears), "attention": LINEARS[:4], "qv": ("q_proj", "v_proj")}
        return named.get(targets) or tuple(f"{name}_proj" for name in targets.split("+"))

    def targets_named(self, value: object) -> str:
        """The one name of a set of Linears, however it was written: `qv` for `v_proj,q_proj` or [q_proj, v_proj]."""
        names = re.split(r"[\s,+]+", value.strip()) if isinstance(value, str) else value
        known = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
        if known and len(names) == 1 and names[0].lower() in TARGETS:
            return names[0].lower()
        wanted = {f"{name.removesuffix('_proj')}_proj" for name in names} if known else set()
        allowed = f"one of {', '.join(TARGETS)}, or Linears joined by + ({', '.join(self.linears)})"
        require(wanted and wanted <= set(self.linears), "targets", value, allowed)
        chosen = tuple(name for name in self.linears if name in wanted)
        short = "+".join(name.removesuffix("_proj") for name in chosen)
        return next((name for name in TARGETS if self.adapted(name) == chosen), short)


def model_of(name: str, sizes: object) -> ModelSpec:
    """The model with these sizes, as somebody wrote them; FootprintError names a key that is unknown or missing."""
    where, own = f"models.{name}", {field.name: field for field in fields(ModelSpec) if field.name != "name"}
    require(isinstance(sizes, dict), where, sizes, f"a mapping with the keys {', '.join(own)}")
    for key in sizes:
        near = get_close_matches(key, own, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        if key not in own:
            raise FootprintError(f"{where}.{key[:60]}: unknown key{hint}; use one of {', '.join(own)}")
    required = [key for key, field in own.items() if field.default is MISSING]
    missing = [key for key in required if key not in sizes]
    if missing:
        raise FootprintError(f"{where}.{missing[0]}: is missing; required are {', '.join(required)}")
    return ModelSpec(name=name, **sizes)
