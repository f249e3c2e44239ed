"""Which values of tensors on the card are real in a rehearsal, and where they lie.

Device memory is ordinary memory here. Small integer and bool tensors hold real values, unless these follow from
floating-point numbers that no kernel computed.
"""

import ctypes
from weakref import finalize

import torch

from footprint_inside.made_of import dense

SMALL = 1 << 22
"""Elements up to which an operator is carried out."""

EXACT = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}

_unknown: set[int] = set()
"""Where the storages of small integer and bool tensors lie whose values are leftovers: they follow from floating-point
numbers, or the host could not work them out. Every operator that writes such a tensor adds its storage or removes it;
whatever comes to lie there later begins anew.
"""


def on_host(tensor):
    """A view of a device tensor's memory as a tensor on the host."""
    size = tensor.untyped_storage().nbytes()
    if not size:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    memory = (ctypes.c_char * size).from_address(tensor.untyped_storage().data_ptr())
    flat = torch.frombuffer(memory, dtype=tensor.dtype)
    return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def on_card(value):
    """Whether it is a tensor there."""
    return isinstance(value, torch.Tensor) and value.device.type == "cuda"


def parts(value):
    """The dense tensors that decide what an operator gives: of a sparse one with floating-point values its indices."""
    if not isinstance(value, torch.Tensor):
        return []
    made_of = dense(value)
    return made_of if len(made_of) == 1 or made_of[-1].dtype in EXACT else made_of[:-1]


def _is_dense(tensor):
    return tensor.layout is torch.strided and not tensor.is_nested


def is_small_and_exact(tensor):
    """Whether operators on such a tensor are carried out."""
    return tensor.dtype in EXACT and _is_dense(tensor) and tensor.numel() <= SMALL


def storage_of(tensor):
    """Where a tensor's memory begins, which its views share."""
    return tensor.untyped_storage().data_ptr()


def remember(tensor, real):
    """Whether a tensor's values are real from now on."""
    place = storage_of(tensor)
    if real:
        _unknown.discard(place)
    elif place not in _unknown:
        _unknown.add(place)
        finalize(tensor.untyped_storage(), _unknown.discard, place).atexit = False


def is_known(tensor):
    """Whether a tensor's values are real in a rehearsal."""
    return is_small_and_exact(tensor) and not (on_card(tensor) and storage_of(tensor) in _unknown)


def hosted(value):
    """A tensor's numbers as the host reads and writes them; anything else as it is. RuntimeError for rarer layouts."""
    if not on_card(value):
        return value
    if value.layout is torch.sparse_coo:
        said = {"is_coalesced": value.is_coalesced(), "check_invariants": False}
        return torch.sparse_coo_tensor(on_host(value._indices()), on_host(value._values()), value.shape, **said)
    if not _is_dense(value):
        raise RuntimeError(f"the values of a tensor with layout {value.layout} are not read")
    return on_host(value)
