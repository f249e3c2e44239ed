"""A fine-tuning as people run it: a published architecture under Transformers' Trainer, PEFT and bitsandbytes.

What such a run has beside its axes, and what its axes may be; the run itself is a `RunSpec` whose `stack` says so.
"""

import json
import re
from dataclasses import dataclass

from footprint.spec.block import LINEARS, STYLES
from footprint.spec.checks import one_of, require, whole
from footprint.spec.model import TARGETS, ModelSpec

STACKS = ("minigpt", "transformers")
"""Whose code trains: this project's own, or what most people fine-tune with."""

ATTENTION = ("auto", "sdpa", "eager")
BATCHES = ("packed", "padded")
HALVES = ("bf16", "fp16")
PRECISIONS = ("amp", "bf16", "fp32")
CHECKPOINTING = ("none", "block")
LONGEST = 2**24


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
    weights: str | None = None
    """The folder of a checkpoint to load; None: weights are drawn."""

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
        known = self.weights is None or (isinstance(self.weights, str) and self.weights != "")
        require(known, "transformers.weights", self.weights, "the folder of a checkpoint")


def _number(key: str, value: object, below: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    require(number and 0 <= value < below, key, value, f"a number from 0 to below {below:g}")


def under_autocast(recipe: Recipe, precision: str) -> bool:
    """Whether Trainer is told to use autocast."""
    return precision == "amp" if recipe.autocast is None else recipe.autocast


def half_weights(regime: str, precision: str) -> bool:
    """Whether the model is loaded in half precision: all but what trains in full under autocast, or fp32."""
    return precision == "bf16" or (precision == "amp" and regime != "full")


def half_adapters(precision: str) -> bool:
    """Whether adapters are half too; PEFT makes fp32 ones unless it is told otherwise."""
    return precision == "bf16"


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedModel:
    """A model that is known by its config.json alone; of a kind that only Transformers may know."""

    name: str
    config: str
    """What its config.json says."""

    def __post_init__(self) -> None:
        _check_sizes(json.loads(self.config))


def config_of(model: ModelSpec | PublishedModel) -> str:
    """The config.json of a model. FootprintError for sizes that are neither the blocks of LLaMA nor those of GPT-2."""
    if isinstance(model, PublishedModel):
        return model.config
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


def targets_named(model: ModelSpec | PublishedModel, value: object) -> str:
    """The one name of a set of Linears: a name of TARGETS, or names joined by +, which PEFT may know."""
    if isinstance(model, ModelSpec):
        found = model.targets_named(value)
        fused = model.kind == STYLES["gpt"] and found != "all-linear"
        require(not fused, "targets", value, "all-linear: GPT-2 has queries, keys and values in one Linear")
        return found
    names = re.split(r"[\s,+]+", value.strip()) if isinstance(value, str) else value
    known = isinstance(names, list | tuple) and bool(names) and all(isinstance(name, str) and name for name in names)
    require(known, "targets", value, f"one of {', '.join(TARGETS)}, or names joined by +")
    return "+".join(names)


def modules_of(targets: str) -> list[str]:
    """The modules of a set of Linears by the names they have in Transformers: `gate_proj` for gate."""
    return [f"{name}_proj" if f"{name}_proj" in LINEARS else name for name in targets.split("+")]


def check_axes(model: ModelSpec | PublishedModel, *, precision: object, checkpointing: object, seq: object) -> None:
    """Raise FootprintError for a value that an axis does not have under Transformers."""
    _stack_has("precision", precision, PRECISIONS, "Trainer keeps no fp32 copy of half-precision weights")
    _stack_has("checkpointing", checkpointing, CHECKPOINTING, "Transformers checkpoints every layer or none")
    whole("seq", seq, 2, model.longest_seq if isinstance(model, ModelSpec) else LONGEST)
    config_of(model)


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
