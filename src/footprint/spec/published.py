"""A model's shape from the config.json it is published with on the Hugging Face Hub. Nothing is fetched or run."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from footprint.errors import FootprintError
from footprint.files import read_bounded
from footprint.spec.checks import require
from footprint.spec.model import ModelSpec

LARGEST_FILE = 2**20
"""Bytes of a config.json; those published have a few thousand."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A `model_type` whose tensors are those of one of MiniGPT's kinds of block."""

    block: str
    sizes: Mapping[str, str]
    """Fields of `ModelSpec` and what the file calls them."""
    absent: Mapping[str, object] = field(default_factory=dict)
    """What is meant where the file leaves a key out."""
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Keys that must have this value if they are there: another means tensors that no block here has."""


_LLAMA = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_width": "head_dim",
    "mlp_width": "intermediate_size",
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
    "tied_head": "tie_word_embeddings",
}
_GPT2 = {
    "layers": "n_layer",
    "width": "n_embd",
    "heads": "n_head",
    "mlp_width": "n_inner",
    "vocab": "vocab_size",
    "context": "n_positions",
    "tied_head": "tie_word_embeddings",
}
_NO_BIASES = {"attention_bias": False, "mlp_bias": False}

FAMILIES = {
    "llama": Family(
        block="llama",
        sizes=_LLAMA,
        absent={"num_key_value_heads": None, "head_dim": None, "tie_word_embeddings": False},
        fixed=_NO_BIASES,
    ),
    "mistral": Family(
        block="llama",
        sizes=_LLAMA,
        absent={"num_key_value_heads": 8, "head_dim": None, "tie_word_embeddings": False},
        fixed=_NO_BIASES,
    ),
    "gpt2": Family(block="gpt", sizes=_GPT2, absent={"n_inner": None, "tie_word_embeddings": True}),
}


def read_shape(path: Path) -> ModelSpec:
    """The shape of the model whose config.json is at `path` or in the folder `path`, named after its folder.

    Raises FootprintError for a file that is none, a model_type that is not in FAMILIES, and sizes that are missing or
    impossible.
    """
    path = path / "config.json" if path.is_dir() else path
    told = _read(path)
    known = FAMILIES.get(told.get("model_type")) if isinstance(told.get("model_type"), str) else None
    require(
        known is not None,
        f"{path}: model_type",
        told.get("model_type"),
        f"one of {', '.join(FAMILIES)}, or --model-json",
    )
    for key, value in known.fixed.items():
        require(
            told.get(key, value) == value, f"{path}: {key}", told.get(key), f"{value}: no block here has such tensors"
        )
    missing = [key for key in known.sizes.values() if key not in told and key not in known.absent]
    if missing:
        raise FootprintError(f"{path}: {missing[0]}: is missing; a {told['model_type']} config has it")
    sizes = {name: told.get(key, known.absent.get(key)) for name, key in known.sizes.items()}
    return ModelSpec(name=_name(path), block=known.block, **sizes)


def _read(path: Path) -> dict:
    try:
        told = json.loads(read_bounded(path, LARGEST_FILE))
    except OSError as error:
        raise FootprintError(f"{path}: cannot be read ({error.strerror}); use the config.json of a model") from None
    except (ValueError, RecursionError) as error:
        raise FootprintError(f"{path}: is not JSON ({error}); use the config.json of a model") from None
    require(isinstance(told, dict), str(path), told, "the config.json of a model")
    return told


def _name(path: Path) -> str:
    """The folder's name, as models are downloaded; the file's where it has another name than config.json."""
    given = path.resolve().parent.name if path.name == "config.json" else path.stem
    return re.sub(r"[^A-Za-z0-9_.-]", "-", given).strip("-.")[:64] or "published"
