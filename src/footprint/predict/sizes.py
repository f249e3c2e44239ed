"""Every size of a run by name."""

from operator import attrgetter

from footprint.spec.run import RunSpec

MODEL_SIZES = ("layers", "width", "heads", "kv_heads", "head_width", "rotary_width", "mlp_width", "vocab", "context")
RUN_SIZES = ("rank", "batch", "seq")

GETTERS = {name: attrgetter(f"model.{name}") for name in MODEL_SIZES} | {name: attrgetter(name) for name in RUN_SIZES}
"""How each is read off a run."""


def sizes_of(spec: RunSpec) -> dict[str, int]:
    """Elements along each dimension of a run and its model, as one GPU has them."""
    return {name: get(spec) for name, get in GETTERS.items()} | {"batch": spec.local_batch}
