"""A model's shape from the config.json it is published with on the Hugging Face Hub. Nothing is fetched or run."""

import json
import re
from pathlib import Path

from footprint.errors import FootprintError
from footprint.files import read_bounded
from footprint.spec.checks import require
from footprint.spec.families import FAMILIES, LACKING, OFFSETS
from footprint.spec.model import ModelSpec

LARGEST_FILE = 2**20
"""Bytes of a config.json; those published have a few thousand."""

DEEPEST = 100
"""Levels of lists and objects in it; those published have a few."""


def read_shape(path: Path) -> ModelSpec:
    """The shape of the model whose config.json is at `path` or in the folder `path`, named after its folder.

    Raises FootprintError for a file that is none, a model_type that is not in FAMILIES, and sizes that are missing or
    impossible.
    """
    path, told = _file(path), read_config(path)
    family = told.get("model_type")
    known = FAMILIES.get(family) if isinstance(family, str) else None
    require(known is not None, f"{path}: model_type", family, _others(family))
    for key, value in known.fixed.items():
        require(
            told.get(key, value) == value, f"{path}: {key}", told.get(key), f"{value}: no block here has such tensors"
        )
    missing = [key for key in known.sizes.values() if key not in told and key not in known.absent]
    if missing:
        raise FootprintError(f"{path}: {missing[0]}: is missing; a {family} config has it")
    sizes = {name: told.get(key, known.absent.get(key)) for name, key in known.sizes.items()}
    if family in OFFSETS and isinstance(sizes["context"], int):
        sizes["context"] += OFFSETS[family]
    _check_words(path, told)
    name = name_of(path)
    try:
        return ModelSpec(name=name, block=known.style, **sizes | known.parts(told))
    except FootprintError as error:
        # The file has names of its own for what it says wrong.
        key, said = str(error).removeprefix(f"models.{name}.").split(": ", 1)
        raise FootprintError(f"{path}: {(OTHERWISE | known.sizes).get(key, key)}: {said}") from None


def _check_words(path: Path, told: dict) -> None:
    """Raise FootprintError for what is neither true nor false, and for an activation that is none."""
    for key in SWITCHES:
        require(isinstance(told.get(key), bool | None), f"{path}: {key}", told.get(key), "true or false")
    apart = told.get("mlp_bias") and not told.get("attention_bias")
    require(not apart, f"{path}: mlp_bias", told.get("mlp_bias"), "false, or attention_bias: true beside it")
    for key in ("hidden_act", "activation_function"):
        value = told.get(key)
        require(value is None or value in ACTIVATIONS, f"{path}: {key}", value, f"one of {', '.join(ACTIVATIONS)}")


OTHERWISE = {"rotary_width": "partial_rotary_factor"}
"""What a size is called that a file gives as a share."""

SWITCHES = ("attention_bias", "mlp_bias", "use_qkv_bias", "use_parallel_residual", "tie_word_embeddings")
"""Keys of a config.json that are true or false."""

ACTIVATIONS = (
    "silu",
    "swish",
    "gelu",
    "gelu_new",
    "gelu_fast",
    "gelu_pytorch_tanh",
    "gelu_python",
    "quick_gelu",
    "relu",
)
"""Functions of one tensor between the Linears of an MLP; each keeps what the block's own keeps."""


def _others(family: object) -> str:
    """What a file of another family may be, or what its model has that no block here does."""
    lacking = next((what for what, families in LACKING.items() if family in families), None)
    if lacking is None:
        return f"one of {', '.join(FAMILIES)}, or --model-json, or `footprint rehearse` with --hf-config or a script"
    return f"`footprint rehearse` with --hf-config or a script that trains it: it has {lacking}, as no block here does"


def _file(path: Path) -> Path:
    return path / "config.json" if path.is_dir() else path


def _told(content: bytes) -> object:
    """What JSON says; ValueError for what is none, or too deep: each level takes of a stack that ends differently from
    one machine to the next, in a browser without a word.
    """
    text = content.decode(json.detect_encoding(content), "surrogatepass")
    level = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        level += 1 if bracket in "[{" else -1
        if level > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels deep")
    return json.loads(text)


def read_config(path: Path) -> dict:
    """What the config.json at `path`, or in the folder `path`, says; FootprintError where it is none."""
    path = _file(path)
    try:
        told = _told(read_bounded(path, LARGEST_FILE))
    except OSError as error:
        raise FootprintError(f"{path}: cannot be read ({error.strerror}); use the config.json of a model") from None
    except FootprintError:
        raise
    except ValueError as error:
        raise FootprintError(f"{path}: is not JSON ({error}); use the config.json of a model") from None
    require(isinstance(told, dict), str(path), told, "the config.json of a model")
    stored = told.get("quantization_config")
    method = stored.get("quant_method") if isinstance(stored, dict) else None
    known = stored is None or method == "bitsandbytes"
    require(known, f"{path}: quantization_config", method or stored, "the config.json of the model it was made from")
    return told


def name_of(path: Path) -> str:
    """A model's name: that of its folder, as models are downloaded, or of a file that is not called config.json."""
    path = _file(path)
    given = path.resolve().parent.name if path.name == "config.json" else path.stem
    return re.sub(r"[^A-Za-z0-9_.-]", "-", given).strip("-.")[:64] or "published"
