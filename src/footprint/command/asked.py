"""What a command line asks for: a model, a run, training settings, a card."""

import json
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path

from footprint.command.arguments import AXES, RECIPE
from footprint.errors import FootprintError
from footprint.predict.capacity import Capacity, of_card, of_size
from footprint.spec.cards import Card, find
from footprint.spec.checks import one_of, require, whole
from footprint.spec.model import ModelSpec, model_of
from footprint.spec.presets import PRESETS
from footprint.spec.recipe import STACKS, PublishedModel, Recipe, config_of
from footprint.spec.run import DEVICES, MOST_GPUS, REGIMES, STACK_DEFAULTS, RunSpec
from footprint.spec.training import TrainingSpec
from footprint.spec.units import parse_bytes

CUSTOM = "custom"
"""Name of a model given as --model-json."""

ABSENT = {
    "experiment": "prediction",
    "models": {"unasked": {"layers": 1, "width": 8, "heads": 1, "vocab": 2, "context": 1}},
    "grids": [{"model": "unasked", "regime": "full", "seq": 1}],
    "corpus": {"kind": "path", "path": "unread", "sha256": "0" * 64},
    "quality": None,
}
"""What is of no matter when only the models, the device and the training settings of a config file are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What a config file says that concerns a prediction."""

    models: Mapping[str, ModelSpec] = field(default_factory=lambda: PRESETS)
    device: str | None = None
    training: TrainingSpec = field(default_factory=TrainingSpec)


def run(parsed: Namespace) -> tuple[RunSpec, TrainingSpec]:
    """The run that the options describe, and the training settings of the config file."""
    told = setup(parsed.config, device(parsed))
    given = axes(parsed)
    where = device(parsed) or told.device or "cpu"
    if parsed.config is not None:
        from footprint.experiment.config import require_half

        require_half(told.training, where)
    return RunSpec(model=model(parsed, told), device=where, card=_key(parsed, where), **given), told.training


def axes(parsed: Namespace) -> dict[str, object]:
    """The axes that were given, one value each or for a search several.

    Several GPUs share a model by fsdp unless that is said otherwise.
    """
    given = {axis: getattr(parsed, axis) for axis in AXES if getattr(parsed, axis) is not None}
    asked_for = given.get("gpus", 1)
    for gpus in asked_for if isinstance(asked_for, tuple) else (asked_for,):
        whole("gpus", gpus, 1, MOST_GPUS)
    if asked_for in (1, (1,)):
        return given
    return {"sharding": ("fsdp",) if isinstance(asked_for, tuple) else "fsdp"} | given


def stack(parsed: Namespace, default: str) -> str:
    """Whose code is to train: what was asked for, or the default."""
    found = one_of("stack", parsed.stack or default, STACKS)
    recipe = [name for name in RECIPE if getattr(parsed, name) is not None]
    require(
        found == "transformers" or not recipe,
        recipe[0] if recipe else "",
        getattr(parsed, recipe[0]) if recipe else None,
        "absent with --stack minigpt",
    )
    return found


def transformers_run(parsed: Namespace, card: Card) -> RunSpec:
    """The run under Transformers that the options describe, on a card."""
    return RunSpec(**_under_transformers(parsed, card) | axes(parsed))


def settings(parsed: Namespace, card: Card) -> tuple[list[RunSpec], list[int]]:
    """Every combination of the values that were given, and of the regimes and checkpointing that were not; the lengths
    of sequences to try, the shortest first.
    """
    from footprint.predict.search import SHORTEST

    given = axes(parsed)
    batch = ", ".join(map(str, given.get("batch", ())))
    require("batch" not in given, "batch", batch, "absent with --rehearse, which searches it")
    common = _under_transformers(parsed, card)
    told = json.loads(config_of(common["model"]))
    context = next((told[key] for key in ("max_position_embeddings", "n_positions") if key in told), LONGEST_TRIED)
    most = min(context, LONGEST_TRIED) if isinstance(context, int) else LONGEST_TRIED
    lengths = given.pop("seq", None) or [2**power for power in range(21) if SHORTEST <= 2**power <= most]
    values = {"regime": REGIMES, "checkpointing": ("none", "block"), "gpus": (1,)} | given
    cells = (dict(zip(values, cell, strict=True)) for cell in product(*values.values()))
    # The fewest sequences there can be: one on each GPU.
    runs = dict.fromkeys(RunSpec(**common | cell | {"batch": cell["gpus"]}) for cell in cells)
    return list(runs), sorted(lengths)


LONGEST_TRIED = 2**15
"""Tokens of the longest sequence that is searched without being asked for."""


def _under_transformers(parsed: Namespace, card: Card) -> dict[str, object]:
    """What all runs of a command line share: the model, the card, the recipe."""
    from footprint.spec.published import name_of, read_config

    recipe = Recipe(**{name: getattr(parsed, name) for name in RECIPE if getattr(parsed, name) is not None})
    if parsed.hf_config is not None:
        wanted = PublishedModel(name=name_of(parsed.hf_config), config=json.dumps(read_config(parsed.hf_config)))
    else:
        wanted = model(parsed, setup(parsed.config, "cuda"))
    where = {"device": "cuda", "card": card.key, "stack": "transformers"}
    return STACK_DEFAULTS["transformers"] | where | {"model": wanted, "recipe": recipe}


def _key(parsed: Namespace, where: str) -> str | None:
    """The name of the card in the catalogue, however it was written."""
    return find(parsed.card).key if parsed.card and where == "cuda" else None


def device(parsed: Namespace) -> str | None:
    """The device that was asked for: a card means CUDA unless the command line says otherwise."""
    if parsed.device is not None:
        return one_of("device", parsed.device, DEVICES)
    return "cuda" if parsed.gpu_memory or parsed.card else None


def setup(path: Path | None, where: str | None) -> Setup:
    """What the config file declares, checked as a whole; without one, the presets."""
    if path is None:
        return Setup()
    from footprint.experiment.config import parse
    from footprint.experiment.yaml_file import load

    config = load(path)
    told = parse(ABSENT | config | {name: ABSENT[name] for name in ("grids", "quality")} | _with_models(config, where))
    models = {name: ModelSpec(name=name, **sizes) for name, sizes in config.get("models", {}).items()}
    return Setup(models=PRESETS | models, device=config.get("device"), training=told.training)


def _with_models(config: Mapping, where: str | None) -> dict:
    """The config's own models beside the one of ABSENT, on the device that was asked for."""
    models = config.get("models", {})
    kept = {"models": models | ABSENT["models"] if isinstance(models, dict) else models}
    return kept if where is None else kept | {"device": where}


def model(parsed: Namespace, told: Setup) -> ModelSpec:
    """The model by its name, its sizes, or its published config.json."""
    if parsed.model_json is not None:
        return _custom_model(parsed.model_json)
    if parsed.hf_config is not None:
        from footprint.spec.published import read_shape

        return read_shape(parsed.hf_config)
    if parsed.model in told.models:
        return told.models[parsed.model]
    near = get_close_matches(parsed.model, told.models, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise FootprintError(f"model: {parsed.model[:60]!r} is not known{hint}; use one of {', '.join(told.models)}")


def _custom_model(text: str) -> ModelSpec:
    try:
        sizes = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise FootprintError(f'model-json: not JSON ({error}); use sizes such as {{"layers": 2, ...}}') from None
    return model_of(CUSTOM, sizes)


def _each_once(pairs: list[tuple[str, object]]) -> dict:
    repeated = [name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number])]
    if repeated:
        raise ValueError(f"the key {repeated[0][:60]!r} stands in it twice")
    return dict(pairs)


def capacity(parsed: Namespace, where: str) -> Capacity | None:
    """What the run has to fit into: a named card, one of a size, the memory of a CPU; None where nothing was given."""
    memory = None if parsed.gpu_memory is None else parse_bytes(parsed.gpu_memory, "gpu-memory")
    if parsed.card is not None:
        require(where == "cuda", "card", parsed.card, "absent with --device cpu")
        found = card(parsed.card, memory)
        return of_card(found)
    if memory is None:
        return None
    return of_size(memory) if where == "cuda" else Capacity(memory)


def card(key: str, memory: int | None) -> Card:
    """A card of the catalogue, with the memory that was given for it."""
    found = find(key)
    return found if memory is None else replace(found, total=memory)
