"""Which published models MiniGPT's blocks can take: what their config.json calls each size, and what it leaves out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Told = Mapping[str, object]
"""What a config.json says."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A `model_type`."""

    style: str
    """The `block` whose parts it has where `parts` says no other."""
    sizes: Mapping[str, str]
    """Fields of `ModelSpec` and what the file calls them."""
    absent: Mapping[str, object] = field(default_factory=dict)
    """What is meant where the file leaves a key out."""
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Keys that must have this value if they are there: another means tensors that no block here has."""
    parts: Callable[[Told], Mapping[str, object]] = lambda told: {}
    """Further fields of `ModelSpec`."""


def _biases(told: Told) -> dict[str, object]:
    """Attention and MLP each have biases or none; those of the MLP alone are no block's here, as the spec will say."""
    attention, mlp = bool(told.get("attention_bias")), bool(told.get("mlp_bias"))
    return {
        "biases": {(True, True): "all", (True, False): "attention", (False, True): "mlp"}.get((attention, mlp), "none")
    }


def _turned(told: Told, head_width: object, share: object) -> dict[str, object]:
    """How much of a head is turned; `share` is meant where the file does not say. Wrong types are the spec's matter."""
    rope = told.get("rope_parameters") if isinstance(told.get("rope_parameters"), Mapping) else {}
    said = (told.get("partial_rotary_factor"), told.get("rotary_pct"), rope.get("partial_rotary_factor"), share)
    share = next(one for one in said if one is not None)
    numbers = isinstance(share, int | float) and isinstance(head_width, int)
    return {"rotary_width": int(share * head_width) if numbers else share}


def _head_width(told: Told) -> object:
    width, heads = told.get("hidden_size"), told.get("num_attention_heads")
    whole = isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads == 0
    return width // heads if whole else None


def _stablelm(told: Told) -> dict[str, object]:
    return {"norm": "layer", "biases": "qkv" if told.get("use_qkv_bias") else "none"} | _turned(
        told, _head_width(told), 0.25
    )


def _neox(told: Told) -> dict[str, object]:
    residual = "parallel" if told.get("use_parallel_residual", True) else "before"
    return {"positions": "rotary", "residual": residual} | _turned(told, _head_width(told), 0.25)


_LLAMA = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "mlp_width": "intermediate_size",
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
    "tied_head": "tie_word_embeddings",
}
_OWN_HEADS = _LLAMA | {"head_width": "head_dim"}
_GPT2 = {
    "layers": "n_layer",
    "width": "n_embd",
    "heads": "n_head",
    "mlp_width": "n_inner",
    "vocab": "vocab_size",
    "context": "n_positions",
    "tied_head": "tie_word_embeddings",
}
_NEOX = {name: key for name, key in _LLAMA.items() if name != "kv_heads"}
_UNTIED = {"num_key_value_heads": None, "head_dim": None, "tie_word_embeddings": False}

FAMILIES = {
    "llama": Family(style="llama", sizes=_OWN_HEADS, absent=_UNTIED, parts=_biases),
    "mistral": Family(style="llama", sizes=_OWN_HEADS, absent=_UNTIED | {"num_key_value_heads": 8}),
    "qwen2": Family(style="llama", sizes=_LLAMA, absent=_UNTIED, parts=lambda told: {"biases": "qkv"}),
    "qwen3": Family(
        style="llama",
        sizes=_OWN_HEADS,
        absent=_UNTIED | {"head_dim": 128},
        parts=lambda told: _biases(told) | {"qk_norm": "head"},
    ),
    "phi3": Family(
        style="llama", sizes=_LLAMA, absent=_UNTIED, parts=lambda told: _turned(told, _head_width(told), 1.0)
    ),
    "smollm3": Family(
        style="llama",
        sizes=_LLAMA,
        absent=_UNTIED | {"num_key_value_heads": 4, "tie_word_embeddings": True},
        parts=_biases,
    ),
    "granite": Family(style="llama", sizes=_LLAMA, absent=_UNTIED, parts=_biases),
    "olmo2": Family(
        style="llama",
        sizes=_LLAMA,
        absent=_UNTIED,
        parts=lambda told: _biases(told) | {"qk_norm": "width", "residual": "after"},
    ),
    "stablelm": Family(
        style="llama",
        sizes=_LLAMA,
        absent=_UNTIED,
        fixed={"qk_layernorm": False, "use_parallel_residual": False},
        parts=_stablelm,
    ),
    "gpt2": Family(style="gpt", sizes=_GPT2, absent={"n_inner": None, "tie_word_embeddings": True}),
    "gpt_neox": Family(
        style="gpt", sizes=_NEOX, absent={"tie_word_embeddings": False}, fixed={"attention_bias": True}, parts=_neox
    ),
    "opt": Family(
        style="gpt",
        sizes=_NEOX | {"mlp_width": "ffn_dim"},
        absent={"tie_word_embeddings": True},
        fixed={"do_layer_norm_before": True, "enable_bias": True, "layer_norm_elementwise_affine": True},
        parts=lambda told: {"mlp": "relu"},
    ),
}
"""Linears that a family fuses (phi3, gpt2 and gpt_neox) are separate here; factors on residuals, and layers without
rotary positions, are left out: neither has parameters."""

OFFSETS = {"opt": 2}
"""Rows of the position table beyond the context."""

LACKING = {
    "experts and their router": (
        *("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "gpt_oss", "granitemoe", "olmoe"),
        *("phimoe", "dbrx", "llama4", "llama4_text", "glm4_moe", "jetmoe", "minimax", "ernie4_5_moe"),
    ),
    "norms on both sides of attention and MLP": ("gemma2", "gemma3", "gemma3_text", "glm4", "cohere2"),
    "an MLP gated by GELU": ("gemma",),
    "one norm for attention and MLP": ("cohere", "phi", "gptj", "falcon", "codegen"),
    "positions by a slope of every head": ("bloom", "mpt"),
    "a state space": ("mamba", "mamba2", "falcon_mamba", "jamba", "zamba2", "bamba", "granitemoehybrid"),
    "an encoder and attention across": ("t5", "mt5", "umt5", "bart", "mbart", "pegasus", "whisper", "marian", "led"),
    "attention in both directions": (
        "bert",
        "roberta",
        "distilbert",
        "deberta-v2",
        "modernbert",
        "electra",
        "xlm-roberta",
    ),
    "an encoder of images": (
        *("llava", "llava_next", "mllama", "mistral3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "paligemma"),
        *("smolvlm", "pixtral", "internvl", "clip", "gemma3n", "phi4_multimodal"),
    ),
}
"""What no block here has, and the `model_type`s that have it."""
