"""Which tensors make the difference between two peaks: what was live at each, by kind and shape."""

from collections import Counter
from collections.abc import Iterator

from footprint.jobs.fresh import Row
from footprint.measure.recorded_run import RecordedRun
from footprint.spec.columns import PHASES
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


def differences(spec: RunSpec, ours: Groups, theirs: Groups) -> Iterator[Row]:
    """Bytes live at the peak by kind and, among activations, by shape; largest difference first, none left out."""
    ours, theirs = named(spec, ours), named(spec, theirs)
    for kind, tensor in sorted(ours | theirs, key=lambda key: -abs(ours[key] - theirs[key])):
        key = kind, tensor
        if ours[key] != theirs[key]:
            row = {"regime": spec.regime, "precision": spec.precision, "kind": kind, "tensor": tensor}
            row |= {"ours_bytes": ours[key], "theirs_bytes": theirs[key]}
            yield row | {"ours_minus_theirs_bytes": ours[key] - theirs[key]}


def named(spec: RunSpec, groups: Groups) -> Counter[tuple[str, str]]:
    """Bytes of each (kind, name)."""
    names, sizes = names_of_activations(spec), Counter()
    for (kind, size), count in groups.items():
        name = names.get(size, f"blocks of {size} bytes") if kind == "activations" else ALL
        sizes[kind, name] += size * count
    return sizes


def names_of_activations(spec: RunSpec) -> dict[int, str]:
    """What an activation of so many bytes is; the fused query, key and value of GPT-2 is three of ours."""
    model, tokens, rank = spec.model, spec.batch * spec.seq, spec.rank
    fused_rank = rank * 3 // 2
    elements = {
        "tokens x width": (tokens * model.width, tokens * model.width * 3),
        "tokens x mlp": (tokens * model.mlp_width,),
        "tokens x vocab": (tokens * model.vocab,),
        "tokens x rank": (tokens * rank, tokens * fused_rank),
        "width x width": (model.width**2, model.width**2 * 3),
        "width x mlp": (model.width * model.mlp_width,),
        "vocab x width": (model.vocab * model.width,),
        "rank x width": (rank * model.width, fused_rank * model.width, fused_rank * model.width * 3),
        "rank x mlp": (rank * model.mlp_width,),
        "width": (model.width, model.width * 3),
        "mlp": (model.mlp_width,),
    }
    names = {}
    for name, counts in elements.items():
        for count in counts:
            for element, size in (("bf16", 2), ("fp32", 4)):
                names.setdefault(count * size, f"{name}, {element}")
    return names
