"""Small integer and bool operators are carried out, because programs decide by them; large floats are not even drawn.

A kernel does nothing in a rehearsal, so a mask would be all zeros. Device memory is ordinary memory here: this mode
lets an operator allocate as it would, then writes into its result what the same operator gives on the host. An operator
whose result has a shape that depends on values reads a count back from the device. The count is worked out first, and
the stand-in hands it over as the answer to that copy.
"""

import ctypes
from weakref import finalize

import torch
from made_of import dense
from refusal import note
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

SMALL = 1 << 22
"""Elements up to which an operator is carried out."""

LARGE = 1 << 20
"""Elements from which the floating-point numbers of a tensor on the host are not written."""

EXACT = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}

aten = torch.ops.aten
_standin = ctypes.CDLL(None)


_unknown: set[int] = set()
"""Where the storages of small integer and bool tensors lie whose values are leftovers: they follow from floating-point
numbers, or the host could not work them out. Every operator that writes such a tensor adds its storage or removes it;
whatever comes to lie there later begins anew.
"""


class UnknownShapeError(RuntimeError):
    """The shape of a result depends on values that no rehearsal has. The rehearsal as a whole is refused then."""

    def __init__(self, operator, why):
        sentence = f"the shape of {operator}'s result depends on values that a rehearsal does not have: {why}"
        super().__init__(sentence)
        note(sentence)


def on_host(tensor):
    """A view of a device tensor's memory as a tensor on the host."""
    size = tensor.untyped_storage().nbytes()
    if not size:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    memory = (ctypes.c_char * size).from_address(tensor.untyped_storage().data_ptr())
    flat = torch.frombuffer(memory, dtype=tensor.dtype)
    return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _on_card(value):
    return isinstance(value, torch.Tensor) and value.device.type == "cuda"


def _parts(value):
    """The dense tensors that decide what an operator gives: of a sparse one with floating-point values its indices."""
    if not isinstance(value, torch.Tensor):
        return []
    parts = dense(value)
    return parts if len(parts) == 1 or parts[-1].dtype in EXACT else parts[:-1]


def _is_dense(tensor):
    return tensor.layout is torch.strided and not tensor.is_nested


def is_small_and_exact(tensor):
    """Whether operators on such a tensor are carried out."""
    return tensor.dtype in EXACT and _is_dense(tensor) and tensor.numel() <= SMALL


def _storage(tensor):
    return tensor.untyped_storage().data_ptr()


def remember(tensor, real):
    """Whether a tensor's values are real from now on."""
    place = _storage(tensor)
    if real:
        _unknown.discard(place)
    elif place not in _unknown:
        _unknown.add(place)
        finalize(tensor.untyped_storage(), _unknown.discard, place).atexit = False


def is_known(tensor):
    """Whether a tensor's values are real in a rehearsal."""
    return is_small_and_exact(tensor) and not (_on_card(tensor) and _storage(tensor) in _unknown)


def hosted(value):
    """A tensor's numbers as the host reads and writes them; anything else as it is. RuntimeError for rarer layouts."""
    if not _on_card(value):
        return value
    if value.layout is torch.sparse_coo:
        said = {"is_coalesced": value.is_coalesced(), "check_invariants": False}
        return torch.sparse_coo_tensor(on_host(value._indices()), on_host(value._values()), value.shape, **said)
    if not _is_dense(value):
        raise RuntimeError(f"the values of a tensor with layout {value.layout} are not read")
    return on_host(value)


class RealValues(TorchDispatchMode):
    """Active as long as the program runs. `collectives` carries out the operators that speak to other ranks."""

    def __init__(self, collectives=None):
        super().__init__()
        self._collectives = collectives

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(hasattr(kind, "__tensor_flatten__") for kind in types):
            return NotImplemented  # a tensor made of others, as a jagged one: what is done to those comes here, too
        kwargs = kwargs or {}
        if function.namespace == "c10d" and self._collectives is not None:
            return self._collectives.carry_out(function, args, kwargs)
        if _is_in_vain(function, args):
            return args[0]
        if function is aten._to_copy.default and _is_large_on_host(args[0]) and _stays_on_host(kwargs):
            return torch.empty(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        reads = _READS.get(function.overloadpacket)
        for number in reads(*args, **kwargs) if reads is not None else ():
            _standin.footprint_answer(ctypes.c_longlong(number))
        result = function(*args, **kwargs)
        _standin.footprint_forget_answers()
        _carry_out(function, args, kwargs, result)
        return result


DRAWN = {
    f"aten::{name}_" for name in ("uniform", "normal", "trunc_normal", "erfinv", "clamp", "mul", "add", "fill", "zero")
}
"""What fills a tensor in place, as models are initialized."""


def _is_in_vain(function, args):
    """Whether an operator would only write numbers that no one reads: a model's weights, before they go to the card.

    What it leaves out is the time, and the memory of this machine that untouched pages never take.
    """
    return function._schema.name in DRAWN and _is_large_on_host(args[0])


def _is_large_on_host(tensor):
    return tensor.device.type == "cpu" and tensor.is_floating_point() and tensor.numel() >= LARGE


def _stays_on_host(kwargs):
    return kwargs.get("device") is None or torch.device(kwargs["device"]).type == "cpu"


def _carry_out(function, args, kwargs, result):
    """Write the values of a small exact result if what it follows from is known, else remember that they are not."""
    name = function._schema.name
    if name in _VIEWS_ONLY:
        return
    if name in _COPIES and not _on_card(result) and _on_card(args[name == "aten::copy_"]):
        _fetch(args[name == "aten::copy_"], result)
        return
    outputs = [part for leaf in tree_leaves(result) for part in _parts(leaf) if _on_card(part)]
    exact = [leaf for leaf in outputs if is_small_and_exact(leaf)]
    if not exact:
        return
    inputs = [part for leaf in tree_leaves((args, kwargs)) for part in _parts(leaf)]
    places = {_storage(leaf) for leaf in inputs if _on_card(leaf)}
    if not function._schema.is_mutable and any(_storage(leaf) in places for leaf in outputs):
        return  # a view
    if name == "aten::copy_":
        known = is_known(args[1])
        if known:  # the stand-in carries out the smallest copies alone
            hosted(args[0]).copy_(hosted(args[1]))
    else:
        follows = len(exact) == len(outputs) and all(map(is_known, inputs))
        known = name.startswith("aten::empty") or (follows and _write(function, args, kwargs, outputs))
    for leaf in exact:
        if leaf.numel():
            remember(leaf, known)


def _fetch(source, result):
    """Bring the values of a small exact tensor from the card to the host."""
    if is_known(source):
        result.copy_(on_host(source))


def _write(function, args, kwargs, outputs):
    """Write into `outputs` what the same operator gives on the host; False where the host has no such operator."""
    with torch._C._DisableTorchDispatch():
        try:
            host_args, host_kwargs = tree_map(hosted, (args, kwargs))
            if host_kwargs.get("device") is not None:
                host_kwargs = dict(host_kwargs, device=torch.device("cpu"))
            values = function(*host_args, **host_kwargs)
        except RuntimeError:  # no such operator on the host: the caller notes that these values are not known
            return False
        if not function._schema.is_mutable:
            found = [part for leaf in tree_leaves(values) for part in _parts(leaf)]
            for place, value in zip(outputs, found, strict=True):
                if place.numel():  # the host also gives what nobody asked for
                    on_host(place).copy_(value)
    return True


_COPIES = {"aten::_to_copy", "aten::copy_"}
_VIEWS_ONLY = {"aten::detach", "aten::alias", "aten::view", "aten::_unsafe_view"}


def _exactly(operator, tensor):
    """A tensor's values; UnknownShapeError where a rehearsal has none."""
    if not is_small_and_exact(tensor):
        raise UnknownShapeError(operator, f"those of a {tensor.dtype} tensor of {tensor.numel()} elements")
    if not is_known(tensor):
        raise UnknownShapeError(operator, "they follow from floating-point numbers that were never computed")
    return on_host(tensor) if _on_card(tensor) else tensor


def _by_nonzero(tensor):
    return [int(torch.count_nonzero(_exactly("nonzero", tensor)))] if _on_card(tensor) else []


def _by_selection(tensor, mask):
    if not _on_card(tensor):
        return []
    mask = _exactly("masked_select", mask)
    return [int(torch.count_nonzero(mask.expand(torch.broadcast_shapes(mask.shape, tensor.shape))))]


def _by_indices(tensor, indices, *_, **__):
    masks = [index for index in indices if _on_card(index) and index.dtype in (torch.bool, torch.uint8)]
    return [int(torch.count_nonzero(_exactly("indexing by a mask", mask))) for mask in masks]


def _by_unique(tensor, *_):
    return [torch.unique(_exactly("unique", tensor)).numel()] if _on_card(tensor) else []


def _by_unique_along(tensor, dim, *_):
    return [torch.unique(_exactly("unique", tensor), dim=dim).size(dim)] if _on_card(tensor) else []


def _by_unique_in_a_row(tensor, _inverse=False, _counts=False, dim=None):
    if not _on_card(tensor):
        return []
    values = _exactly("unique_consecutive", tensor)
    return [torch.unique_consecutive(values, dim=dim).size(dim or 0)]


def _by_largest(tensor, *_, **__):
    # It reads the least number, unless none can be negative, then the largest.
    if not _on_card(tensor) or not tensor.numel():
        return []
    values = _exactly("bincount", tensor)
    return [*([] if values.dtype is torch.uint8 else [int(values.min())]), int(values.max())]


def _by_repeats(tensor, *_, **__):
    # It reads the sum, then whether no number is negative.
    return [int(_exactly("repeat_interleave", tensor).sum()), 1] if _on_card(tensor) else []


def _by_places(tensor):
    """Of a sparse tensor: how many places it has numbers for, each counted once."""
    if not _on_card(tensor) or tensor.is_coalesced():
        return []
    return [torch.unique(_exactly("coalesce", tensor._indices()), dim=1).size(1)]


def _by_sparsity(tensor, *dims, layout=None, **__):
    if not _on_card(tensor) or tensor.layout is torch.sparse_coo:
        return []
    if layout not in (None, torch.sparse_coo) or dims not in ((), (tensor.dim(),)):
        raise UnknownShapeError("to_sparse", "they are worked out for a COO tensor without dense dimensions")
    return _by_nonzero(tensor)


def _by_compressed(tensor, *_, **__):
    if _on_card(tensor) and tensor.layout is torch.strided:
        raise UnknownShapeError("to_sparse", "they are worked out for a COO tensor without dense dimensions")
    return _by_places(tensor) if _on_card(tensor) and tensor.layout is torch.sparse_coo else []


def _by_equality(one, other):
    return [int(torch.equal(hosted(one), hosted(other)))] if is_known(one) and is_known(other) else []


_READS = {
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
"""What an operator reads back from the device before it knows its result or the shape of it, in order."""
