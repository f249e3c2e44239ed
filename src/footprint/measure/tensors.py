"""Which tensors were live at a run's peak: by kind and, among activations, by shape."""

import json
from collections import Counter
from dataclasses import dataclass

from footprint.measure.recorded_run import RecordedRun
from footprint.spec.columns import PHASES
from footprint.spec.model import ModelSpec
from footprint.spec.recipe import PublishedModel
from footprint.spec.run import RunSpec

Groups = Counter[tuple[str, int]]
"""How many blocks there are of each (kind, bytes)."""

ALL = "all"
"""The name of blocks that are no activations: their kind says it."""


def live_at_peak(run: RecordedRun) -> Groups:
    """What was live at the highest peak of the first measured step."""
    first = run.training.warmup_steps
    peak = max((run.trace.peak(f"{first}/{name}") for name in PHASES), key=lambda peak: peak.total)
    alive = (b for b in run.trace.blocks if b.born < peak.after and (b.died is None or b.died >= peak.after))
    return Counter((block.kind, block.size) for block in alive)


def named(spec: RunSpec, groups: Groups) -> Counter[tuple[str, str]]:
    """Bytes of each (kind, name)."""
    names, sizes = names_of_activations(spec), Counter()
    for (kind, size), count in groups.items():
        name = names.get(size, f"blocks of {size} bytes") if kind == "activations" else ALL
        sizes[kind, name] += size * count
    return sizes


@dataclass(frozen=True)
class _Sizes:
    width: int
    mlp: int
    vocab: int
    keys: int
    """Width of all keys of a token."""
    heads: int


def names_of_activations(spec: RunSpec) -> dict[int, str]:
    """What an activation of so many bytes is; the fused query, key and value of GPT-2 is three of ours.

    Where a size is that of two shapes, either may be meant.
    """
    sizes, tokens, rank = _sizes(spec.model), spec.local_batch * spec.seq, spec.rank
    width, mlp, fused_rank = sizes.width, sizes.mlp, rank * 3 // 2
    elements = {
        "tokens x width": (tokens * width, tokens * width * 3),
        "tokens x mlp": (tokens * mlp,),
        "tokens x vocab": (tokens * sizes.vocab,),
        "tokens x rank": (tokens * rank, tokens * fused_rank),
        "width x width": (width**2, width**2 * 3),
        "width x mlp": (width * mlp,),
        "vocab x width": (sizes.vocab * width,),
        "rank x width": (rank * width, fused_rank * width, fused_rank * width * 3),
        "rank x mlp": (rank * mlp,),
        "width": (width, width * 3),
        "mlp": (mlp,),
        "tokens x keys": (tokens * sizes.keys,),
        "heads x tokens x tokens": (spec.local_batch * sizes.heads * spec.seq**2,),
    }
    half = "bf16" if spec.recipe is None else spec.recipe.half
    names = {}
    for element, size in ((half, 2), ("fp32", 4), ("bool", 1)):
        for name, counts in elements.items():
            for count in filter(None, counts if size > 1 or "tokens" in name else ()):  # masks are of tokens
                shape = f"{name}, {element}"
                either = names.setdefault(count * size, shape)
                if shape not in either:
                    names[count * size] = f"{either} or {shape}"
    return names


def _sizes(model: ModelSpec | PublishedModel) -> _Sizes:
    """Of a config whose sizes have names of their own, 0: its tensors are named by their bytes."""
    if isinstance(model, ModelSpec):
        return _Sizes(model.width, model.mlp_width, model.vocab, model.kv_width, model.heads)
    told = json.loads(model.config)

    def size(*names: str) -> int:
        return next((told[name] for name in names if isinstance(told.get(name), int)), 0)

    width, heads = size("hidden_size", "n_embd"), size("num_attention_heads", "n_head")
    head = size("head_dim") or (width // heads if heads else 0)
    keys = head * (size("num_key_value_heads") or heads)
    return _Sizes(width, size("intermediate_size", "ffn_dim", "n_inner"), size("vocab_size"), keys, heads)
