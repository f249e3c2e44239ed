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
    return ModelSpec(name=name_of(path), block=known.style, **sizes | known.parts(told))


def _others(family: object) -> str:
    """What a file of another family may be, or what its model has that no block here does."""
    lacking = next((what for what, families in LACKING.items() if family in families), None)
    if lacking is None:
        return f"one of {', '.join(FAMILIES)}, or --model-json, or `footprint rehearse` with --hf-config or a script"
    return f"`footprint rehearse` with --hf-config or a script that trains it: it has {lacking}, as no block here does"


def _file(path: Path) -> Path:
    return path / "config.json" if path.is_dir() else path


def read_config(path: Path) -> dict:
    """What the config.json at `path`, or in the folder `path`, says; FootprintError where it is none."""
    path = _file(path)
    try:
        told = json.loads(read_bounded(path, LARGEST_FILE))
    except OSError as error:
        raise FootprintError(f"{path}: cannot be read ({error.strerror}); use the config.json of a model") from None
    except FootprintError:
        raise
    except (ValueError, RecursionError) as error:
        raise FootprintError(f"{path}: is not JSON ({error}); use the config.json of a model") from None
    require(isinstance(told, dict), str(path), told, "the config.json of a model")
    return told


def name_of(path: Path) -> str:
    """A model's name: that of its folder, as models are downloaded, or of a file that is not called config.json."""
    path = _file(path)
    given = path.resolve().parent.name if path.name == "config.json" else path.stem
    return re.sub(r"[^A-Za-z0-9_.-]", "-", given).strip("-.")[:64] or "published"
