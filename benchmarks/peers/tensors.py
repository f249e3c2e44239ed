"""Which tensors make the difference between two peaks: what was live at each, by kind and shape."""

from collections.abc import Iterator

from footprint.jobs.fresh import Row
from footprint.measure.tensors import Groups, named
from footprint.spec.run import RunSpec


def differences(spec: RunSpec, ours: Groups, theirs: Groups) -> Iterator[Row]:
    """Bytes live at the peak by kind and, among activations, by shape; largest difference first, none left out."""
    ours, theirs = named(spec, ours), named(spec, theirs)
    for kind, tensor in sorted(ours | theirs, key=lambda key: -abs(ours[key] - theirs[key])):
        key = kind, tensor
        if ours[key] != theirs[key]:
            row = {"regime": spec.regime, "precision": spec.precision, "kind": kind, "tensor": tensor}
            row |= {"ours_bytes": ours[key], "theirs_bytes": theirs[key]}
            yield row | {"ours_minus_theirs_bytes": ours[key] - theirs[key]}
