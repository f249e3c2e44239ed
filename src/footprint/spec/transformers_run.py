"""A fine-tuning as people run it: a published architecture under Transformers' Trainer, PEFT and bitsandbytes."""

import json
import re
from dataclasses import asdict, dataclass, field

from footprint.errors import FootprintError
from footprint.spec.block import LINEARS, STYLES
from footprint.spec.checks import one_of, require, whole
from footprint.spec.model import ModelSpec
from footprint.spec.run import AXES, OPTIMIZERS, QUANTIZATIONS, REGIMES

STACKS = ("minigpt", "transformers")
"""Whose code trains: this project's own, or what most people fine-tune with."""

ATTENTION = ("auto", "sdpa", "eager")
BATCHES = ("packed", "padded")
HALVES = ("bf16", "fp16")
PRECISIONS = ("amp", "bf16", "fp32")
CHECKPOINTING = ("none", "block")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What people set beside the axes of a run. The defaults are Trainer's own, and for adapters those of QLoRA's
    authors and most guides."""

    half: str = "bf16"
    """The half-precision type of weights and autocast; fp16 scales the loss."""
    autocast: bool | None = None
    """Whether Trainer is told `bf16` or `fp16`; None: as the precision has it."""
    dropout: float = 0.05
    """LoRA's."""
    prepared: bool = True
    """Whether a quantized base goes through `prepare_model_for_kbit_training`."""
    attention: str = "auto"
    """`attn_implementation`; `auto` is what Transformers takes by itself."""
    accumulation: int = 1
    """Batches whose gradients are summed for one step."""
    clipping: float = 1.0
    """The largest norm of all gradients; 0 for none."""
    batches: str = "packed"
    """`packed`: every sequence full. `padded`: the first is, the others are half as long, with a mask."""

    def __post_init__(self) -> None:
        one_of("transformers.half", self.half, HALVES)
        one_of("transformers.attention", self.attention, ATTENTION)
        one_of("transformers.batches", self.batches, BATCHES)
        for name in ("autocast", "prepared"):
            value = getattr(self, name)
            known = isinstance(value, bool) or (value is None and name == "autocast")
            require(known, f"transformers.{name}", value, "true or false")
        _number("transformers.dropout", self.dropout, 1)
        _number("transformers.clipping", self.clipping, 1e6)
        whole("transformers.accumulation", self.accumulation, 1, 65536)


def _number(key: str, value: object, below: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    require(number and 0 <= value < below, key, value, f"a number from 0 to below {below:g}")


def published(model: ModelSpec) -> str:
    """The config.json of a model with the blocks of LLaMA or GPT-2; FootprintError for other blocks."""
    sizes = {"vocab_size": model.vocab, "tie_word_embeddings": model.tied_head}
    if model.kind == STYLES["llama"] and not model.partly_rotary:
        told = {
            "model_type": "llama",
            "num_hidden_layers": model.layers,
            "hidden_size": model.width,
            "num_attention_heads": model.heads,
            "num_key_value_heads": model.kv_heads,
            "head_dim": model.head_width,
            "intermediate_size": model.mlp_width,
            "max_position_embeddings": model.context,
        }
        return json.dumps(told | sizes)
    plain = model.attention_width == model.width and not model.grouped_queries
    require(
        model.kind == STYLES["gpt"] and plain,
        "stack",
        "transformers",
        f"--hf-config: {model.name} has blocks of no published family",
    )
    told = {
        "model_type": "gpt2",
        "n_layer": model.layers,
        "n_embd": model.width,
        "n_head": model.heads,
        "n_inner": model.mlp_width,
        "n_positions": model.context,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return json.dumps(told | sizes)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformersRun:
    """The axes of a run, with the words they have in the grid, of a model that is known by its config.json alone."""

    model: str
    """A name for it."""
    config: str
    """What its config.json says, or the folder of a checkpoint."""
    regime: str
    rank: int = 8
    targets: str = "all-linear"
    """PEFT's `all-linear`, `attention`, `qv`, or names of Linears joined by `+`."""
    checkpointing: str = "none"
    precision: str = "amp"
    optimizer: str = "adamw-fused"
    quantization: str = "nf4"
    batch: int = 4
    seq: int = 256
    device: str = field(default="cpu", compare=False)
    card: str | None = field(default=None, compare=False)
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        for key, names in (("regime", REGIMES), ("optimizer", OPTIMIZERS)):
            object.__setattr__(self, key, one_of(key, getattr(self, key), names))
        _stack_has("precision", self.precision, PRECISIONS, "Trainer keeps no fp32 copy of half-precision weights")
        _stack_has("checkpointing", self.checkpointing, CHECKPOINTING, "Transformers checkpoints every layer or none")
        whole("batch", self.batch, 1, 65536)
        whole("seq", self.seq, 2, 2**24)
        if self.config.startswith("{"):
            _check_sizes(json.loads(self.config))
        if self.regime == "full":
            object.__setattr__(self, "rank", 0)
            object.__setattr__(self, "targets", "none")
        else:
            whole("rank", self.rank, 1, 65536)
            names = re.split(r"[\s,+]+", self.targets) if isinstance(self.targets, str) else self.targets
            known = bool(names) and all(names)
            require(known, "targets", self.targets, "all-linear, attention, qv, or names joined by +")
            whole_names = (f"{name}_proj" if f"{name}_proj" in LINEARS else name for name in names)
            object.__setattr__(self, "targets", "+".join(whole_names))
        if self.regime == "qlora":
            object.__setattr__(self, "quantization", one_of("quantization", self.quantization, QUANTIZATIONS))
        else:
            object.__setattr__(self, "quantization", "none")

    @property
    def autocast(self) -> bool:
        """Whether Trainer is told to use autocast."""
        return self.precision == "amp" if self.recipe.autocast is None else self.recipe.autocast

    @property
    def half_weights(self) -> bool:
        """Whether the model is loaded in half precision: all but what trains in full under autocast, or fp32."""
        return self.precision == "bf16" or (self.precision == "amp" and self.regime != "full")

    @property
    def half_adapters(self) -> bool:
        """Whether adapters are half too; PEFT makes fp32 ones unless it is told otherwise."""
        return self.precision == "bf16"

    def axes(self) -> dict[str, str | int]:
        """The axis columns, in contract order."""
        return {name: getattr(self, name) for name in AXES}

    def as_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "TransformersRun":
        """What `as_json` wrote; FootprintError for anything else."""
        try:
            told = json.loads(text)
            return cls(**told | {"recipe": Recipe(**told["recipe"])})
        except (ValueError, KeyError, TypeError) as error:
            raise FootprintError(f"run: not a run under Transformers ({error})") from None


SIZES = {
    ("num_hidden_layers", "n_layer"): (1, 1024),
    ("hidden_size", "n_embd"): (1, 65536),
    ("num_attention_heads", "n_head"): (1, 1024),
    ("num_key_value_heads",): (1, 1024),
    ("intermediate_size", "ffn_dim"): (1, 2**20),
    ("vocab_size",): (2, 2**20),
}
"""Sizes in a config.json, by the names they have there, and their bounds."""


def _check_sizes(told: dict) -> None:
    """Raise FootprintError for a size that no model has; null is for Transformers to read."""
    for keys, (low, high) in SIZES.items():
        for key in keys:
            if told.get(key) is not None:
                whole(f"hf-config: {key}", told[key], low, high)
    heads, kv_heads = told.get("num_attention_heads"), told.get("num_key_value_heads")
    if heads is not None and kv_heads is not None:
        require(heads % kv_heads == 0, "hf-config: num_key_value_heads", kv_heads, f"a divisor of {heads} heads")


def _stack_has(key: str, value: object, names: tuple[str, ...], why: str) -> None:
    known = isinstance(value, str) and value in names
    require(known, key, value, f"one of {', '.join(names)} with Transformers: {why}")
