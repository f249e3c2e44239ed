"""The vocabulary: what model is trained (`ModelSpec`) and how (`RunSpec`). Measurer and predictor both take these."""

import re
from dataclasses import dataclass, field, fields, replace

from footprint.checkpointing import CHECKPOINTING
from footprint.errors import FootprintError
from footprint.precision import PRECISIONS
from footprint.units import parse_bytes

REGIMES = ("full", "lora", "qlora")
TARGETS = ("all-linear", "attention", "qv")
"""Sets of Linears with a name; any other set is written as its Linears without `_proj`, joined by `+`: `gate+up`."""
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linears of a block in forward order; a `gpt` block has no gate_proj."""
OPTIMIZERS = ("adamw", "adamw-fused", "adamw-8bit", "paged-adamw")
CUDA_OPTIMIZERS = ("adamw-8bit", "paged-adamw")
QUANTIZATIONS = ("nf4", "nf4-double")
BLOCKS = ("gpt", "llama")
DEVICES = ("cpu", "cuda")

NF4_BLOCK = 64
"""Weights that share one absmax in bitsandbytes' 4-bit quantization (its default block size)."""

LARGEST_TENSOR = 2**31 - 1
"""Elements of one weight a spec may ask for: kernels with 32-bit indices (cuBLAS, bitsandbytes) stop here."""

LONGEST = 2**24
"""Tokens of the longest context and sequence a spec may ask for."""


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise FootprintError `key: value is not allowed; use ...` unless `condition` holds."""
    if not condition:
        raise FootprintError(f"{key}: {_shown(value)} is not allowed; use {allowed}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _whole(key: str, value: object, low: int, high: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and low <= value <= high, key, value, f"a whole number from {low} to {high}")


def _one_of(key: str, value: object, names: tuple[str, ...]) -> str:
    """The name that was meant; people write QLoRA and BF16."""
    meant = value.lower() if isinstance(value, str) else value
    require(isinstance(meant, str) and meant in names, key, value, "one of " + ", ".join(names))
    return meant


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
    """Rows of the position table. The longest sequence of a `gpt` block, which learns its positions; rotary positions
    go on beyond it."""
    block: str = "gpt"
    """`gpt`: LayerNorm, learned positions, GELU MLP, biases. `llama`: RMSNorm, rotary, SwiGLU, no biases."""
    kv_heads: int | None = None
    """Key/value heads (grouped-query attention); `heads` when not given. `llama` blocks only."""
    head_width: int | None = None
    """Elements of one attention head; width / heads when not given."""
    mlp_width: int | None = None
    """Inner width of the MLP; 4 x width when not given."""
    tied_head: bool = False
    """Whether the output projection shares the token embedding's weight."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kv_heads", self.heads if self.kv_heads is None else self.kv_heads)
        if self.mlp_width is None and isinstance(self.width, int):
            object.__setattr__(self, "mlp_width", 4 * self.width)
        where = f"models.{self.name}"
        _one_of(f"{where}.block", self.block, BLOCKS)
        _whole(f"{where}.layers", self.layers, 1, 1024)
        _whole(f"{where}.width", self.width, 1, 65536)
        _whole(f"{where}.heads", self.heads, 1, 1024)
        _whole(f"{where}.vocab", self.vocab, 2, 2**20)
        _whole(f"{where}.context", self.context, 1, LONGEST)
        _whole(f"{where}.mlp_width", self.mlp_width, 1, 2**20)
        _whole(f"{where}.kv_heads", self.kv_heads, 1, 1024)
        require(isinstance(self.tied_head, bool), f"{where}.tied_head", self.tied_head, "true or false")
        if self.head_width is None:
            divides = self.width % self.heads == 0
            require(divides, f"{where}.heads", self.heads, f"a divisor of width {self.width}, or give head_width")
            object.__setattr__(self, "head_width", self.width // self.heads)
        _whole(f"{where}.head_width", self.head_width, 1, 65536)
        require(
            self.heads % self.kv_heads == 0,
            f"{where}.kv_heads",
            self.kv_heads,
            f"a divisor of heads {self.heads}",
        )
        if self.block == "gpt":
            require(self.kv_heads == self.heads, f"{where}.kv_heads", self.kv_heads, "block: llama for grouped queries")
        else:
            even = self.head_width % 2 == 0
            require(even, f"{where}.head_width", self.head_width, "an even width per head (rotary pairs)")
        for key, rows in self._rows_of_weights().items():
            most = LARGEST_TENSOR // self.width
            require(
                rows <= most, f"{where}.{key}", rows, f"at most {most}: a weight of width {self.width} has no more rows"
            )

    def _rows_of_weights(self) -> dict[str, int]:
        """Rows of the weights that are as wide as the model, by the size that decides them."""
        positions = {"context": self.context} if self.block == "gpt" else {}
        return {"vocab": self.vocab, "mlp_width": self.mlp_width, "heads": self.attention_width} | positions

    @property
    def longest_seq(self) -> int:
        """The longest sequence the model can be trained on: learned positions end with their table."""
        return self.context if self.block == "gpt" else LONGEST

    @property
    def attention_width(self) -> int:
        """Output elements of the query projection: all heads side by side."""
        return self.head_width * self.heads

    @property
    def kv_width(self) -> int:
        """Output elements of the key (and of the value) projection."""
        return self.head_width * self.kv_heads

    @property
    def biases(self) -> bool:
        """Whether Linears in blocks have a bias."""
        return self.block == "gpt"

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
        if self.block == "gpt":
            return attention | {"up_proj": (width, mlp_width), "down_proj": (mlp_width, width)}
        return attention | {
            "gate_proj": (width, mlp_width),
            "up_proj": (width, mlp_width),
            "down_proj": (mlp_width, width),
        }

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


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """One cell of the grid: the ten axes of the contract, collapsed (an axis that does not apply is 0 or `none`)."""

    model: ModelSpec
    regime: str
    rank: int = 8
    targets: str = "all-linear"
    checkpointing: str = "none"
    precision: str = "mixed"
    optimizer: str = "adamw"
    quantization: str = "nf4"
    batch: int = 4
    seq: int = 256
    device: str = field(default="cpu", compare=False)
    """Where it is to run; decides which combinations exist, not which cell of the grid this is."""

    def __post_init__(self) -> None:
        self._read("regime", REGIMES)
        if self.regime == "full":
            _whole("rank", self.rank, 0, 65536)
            if self.targets != "none":
                self.model.targets_named(self.targets)
            object.__setattr__(self, "rank", 0)
            object.__setattr__(self, "targets", "none")
        else:
            _whole("rank", self.rank, 1, 65536)
            object.__setattr__(self, "targets", self.model.targets_named(self.targets))
            narrowest = min(min(self.model.linears[name]) for name in self.model.adapted(self.targets))
            require(
                self.rank <= narrowest,
                "rank",
                self.rank,
                f"at most {narrowest}, the narrowest adapted Linear of {self.model.name}",
            )
        if self.regime == "qlora":
            self._read("quantization", QUANTIZATIONS)
        else:
            self._read("quantization", (*QUANTIZATIONS, "none"))
            object.__setattr__(self, "quantization", "none")
        self._read("checkpointing", CHECKPOINTING)
        self._read("precision", tuple(PRECISIONS))
        self._read("optimizer", OPTIMIZERS)
        _whole("batch", self.batch, 1, 65536)
        _whole("seq", self.seq, 1, self.model.longest_seq)
        self._read("device", DEVICES)
        require(
            self.device == "cuda" or self.optimizer not in CUDA_OPTIMIZERS,
            "optimizer",
            self.optimizer,
            "adamw or adamw-fused on the CPU (bitsandbytes optimizers need device: cuda)",
        )
        widest = self.batch * self.seq * max(self.model.vocab, self.model.mlp_width, self.model.width)
        require(widest <= 2**40, "batch", self.batch, "a smaller batch x seq: one activation passes 2^40 elements")

    def _read(self, key: str, names: tuple[str, ...]) -> None:
        object.__setattr__(self, key, _one_of(key, getattr(self, key), names))

    @property
    def positions(self) -> int:
        """Rows of the position table: those of the model, or more where rotary positions go on beyond its context."""
        context, beyond = self.model.context, self.seq - self.model.context
        return context if self.model.block == "gpt" else context + (beyond > 0) * beyond  # sizes may be arrays

    def axes(self) -> dict[str, str | int]:
        """The axis columns of every CSV, in contract order."""
        return {name: (self.model.name if name == "model" else getattr(self, name)) for name in AXES}

    def with_device(self, device: str) -> "RunSpec":
        """The same cell on another device; raises FootprintError where the combination does not exist there."""
        return replace(self, device=device)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSpec:
    """How a run is carried out; nothing here names a cell of the grid."""

    warmup_steps: int = 1
    """Steps before the measured ones. At least one: optimizer state is allocated in the first step."""
    measured_steps: int = 2
    """Steps under the recorder, and as many again against the clock."""
    seed: int = 0
    memory_limit: int | None = None
    """Bytes of the card to imitate; a run that needs more becomes a row with `status: oom`."""
    half: str = "bf16"
    """The half-precision type: bf16, or fp16 with loss scaling on CUDA."""
    threads: int = 2
    """CPU threads of one run; kernels' scratch memory depends on it, so it is fixed rather than detected."""

    def __post_init__(self) -> None:
        _whole("training.warmup_steps", self.warmup_steps, 1, 1000)
        _whole("training.measured_steps", self.measured_steps, 1, 1000)
        _whole("training.seed", self.seed, 0, 2**32 - 1)
        _whole("training.threads", self.threads, 1, 1024)
        _one_of("training.half", self.half, ("bf16", "fp16"))
        if self.memory_limit is not None:
            object.__setattr__(self, "memory_limit", parse_bytes(self.memory_limit, "training.memory_limit"))


AXES = tuple(f.name for f in fields(RunSpec) if f.name != "device")
"""Axis columns in contract order."""

AXIS_DEFAULTS = {f.name: f.default for f in fields(RunSpec) if f.name not in ("model", "regime", "device")}
"""Values of axes a sub-grid does not mention."""

_LLAMA = {"block": "llama", "vocab": 32000, "context": 4096}

PRESETS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(name="minigpt-85m", layers=12, width=768, heads=12, vocab=256, context=512),
        ModelSpec(name="minigpt-3m", layers=4, width=256, heads=4, vocab=256, context=256),
        ModelSpec(
            name="minillama-3m",
            layers=4,
            width=256,
            heads=8,
            kv_heads=4,
            mlp_width=640,
            vocab=256,
            context=256,
            block="llama",
        ),
        # Touvron et al. 2023 (arXiv:2302.13971, arXiv:2307.09288), tables of model sizes.
        ModelSpec(name="llama-7b", layers=32, width=4096, heads=32, mlp_width=11008, **_LLAMA),
        ModelSpec(name="llama-13b", layers=40, width=5120, heads=40, mlp_width=13824, **_LLAMA),
        ModelSpec(name="llama-70b", layers=80, width=8192, heads=64, kv_heads=8, mlp_width=28672, **_LLAMA),
        # Radford et al. 2019; Zhang et al. 2024 (arXiv:2401.02385); Jiang et al. 2023 (arXiv:2310.06825), its window
        # left out; Grattafiori et al. 2024 (arXiv:2407.21783).
        ModelSpec(name="gpt2-124m", layers=12, width=768, heads=12, vocab=50257, context=1024, tied_head=True),
        ModelSpec(
            name="tinyllama-1.1b",
            layers=22,
            width=2048,
            heads=32,
            kv_heads=4,
            mlp_width=5632,
            **_LLAMA | {"context": 2048},
        ),
        ModelSpec(name="mistral-7b", layers=32, width=4096, heads=32, kv_heads=8, mlp_width=14336, **_LLAMA),
        ModelSpec(
            name="llama3-8b",
            layers=32,
            width=4096,
            heads=32,
            kv_heads=8,
            mlp_width=14336,
            **_LLAMA | {"vocab": 128256, "context": 8192},
        ),
    )
}
"""Models every command knows without a config file."""
