"""What an operator reads back from the device before it knows its result, or the shape of it: worked out first.

The stand-in hands these numbers over as the answers to the copies that would fetch them.
"""

import torch

from footprint_inside.known import hosted, is_known, is_small_and_exact, on_card, on_host
from footprint_inside.refusal import note

aten = torch.ops.aten


class UnknownShapeError(RuntimeError):
    """The shape of a result depends on values that no rehearsal has. The rehearsal as a whole is refused then."""

    def __init__(self, operator, why):
        sentence = f"the shape of {operator}'s result depends on values that a rehearsal does not have: {why}"
        super().__init__(sentence)
        note(sentence)


def _exactly(operator, tensor):
    """A tensor's values; UnknownShapeError where a rehearsal has none."""
    if not is_small_and_exact(tensor):
        raise UnknownShapeError(operator, f"those of a {tensor.dtype} tensor of {tensor.numel()} elements")
    if not is_known(tensor):
        raise UnknownShapeError(operator, "they follow from floating-point numbers that were never computed")
    return on_host(tensor) if on_card(tensor) else tensor


def _by_nonzero(tensor):
    return [int(torch.count_nonzero(_exactly("nonzero", tensor)))] if on_card(tensor) else []


def _by_selection(tensor, mask):
    if not on_card(tensor):
        return []
    mask = _exactly("masked_select", mask)
    return [int(torch.count_nonzero(mask.expand(torch.broadcast_shapes(mask.shape, tensor.shape))))]


def _by_indices(tensor, indices, *_, **__):
    masks = [index for index in indices if on_card(index) and index.dtype in (torch.bool, torch.uint8)]
    return [int(torch.count_nonzero(_exactly("indexing by a mask", mask))) for mask in masks]


def _by_unique(tensor, *_):
    return [torch.unique(_exactly("unique", tensor)).numel()] if on_card(tensor) else []


def _by_unique_along(tensor, dim, *_):
    return [torch.unique(_exactly("unique", tensor), dim=dim).size(dim)] if on_card(tensor) else []


def _by_unique_in_a_row(tensor, _inverse=False, _counts=False, dim=None):
    if not on_card(tensor):
        return []
    values = _exactly("unique_consecutive", tensor)
    return [torch.unique_consecutive(values, dim=dim).size(dim or 0)]


def _by_largest(tensor, *_, **__):
    # It reads the least number, unless none can be negative, then the largest.
    if not on_card(tensor) or not tensor.numel():
        return []
    values = _exactly("bincount", tensor)
    return [*([] if values.dtype is torch.uint8 else [int(values.min())]), int(values.max())]


def _by_repeats(tensor, *_, **__):
    # It reads the sum, then whether no number is negative.
    return [int(_exactly("repeat_interleave", tensor).sum()), 1] if on_card(tensor) else []


def _by_places(tensor):
    """Of a sparse tensor: how many places it has numbers for, each counted once."""
    if not on_card(tensor) or tensor.is_coalesced():
        return []
    return [torch.unique(_exactly("coalesce", tensor._indices()), dim=1).size(1)]


def _by_sparsity(tensor, *dims, layout=None, **__):
    if not on_card(tensor) or tensor.layout is torch.sparse_coo:
        return []
    if layout not in (None, torch.sparse_coo) or dims not in ((), (tensor.dim(),)):
        raise UnknownShapeError("to_sparse", "they are worked out for a COO tensor without dense dimensions")
    return _by_nonzero(tensor)


def _by_compressed(tensor, *_, **__):
    if on_card(tensor) and tensor.layout is torch.strided:
        raise UnknownShapeError("to_sparse", "they are worked out for a COO tensor without dense dimensions")
    return _by_places(tensor) if on_card(tensor) and tensor.layout is torch.sparse_coo else []


def _by_equality(one, other):
    return [int(torch.equal(hosted(one), hosted(other)))] if is_known(one) and is_known(other) else []


READS = {
    aten.nonzero: _by_nonzero,
    aten.masked_select: _by_selection,
    aten.index: _by_indices,
    aten.index_put: _by_indices,
    aten.index_put_: _by_indices,
    aten._index_put_impl_: _by_indices,
    aten._unique: _by_unique,
    aten._unique2: _by_unique,
    aten.unique_dim: _by_unique_along,
    aten.unique_consecutive: _by_unique_in_a_row,
    aten.bincount: _by_largest,
    aten.repeat_interleave: _by_repeats,
    aten._coalesce: _by_places,
    aten._to_sparse: _by_sparsity,
    aten._to_sparse_csr: _by_compressed,
    aten._to_sparse_csc: _by_compressed,
    aten._to_sparse_bsr: _by_compressed,
    aten._to_sparse_bsc: _by_compressed,
    aten.equal: _by_equality,
}
"""The numbers, in the order in which they are read, by the operator."""
