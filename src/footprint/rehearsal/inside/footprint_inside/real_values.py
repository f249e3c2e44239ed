"""Small integer and bool operators are carried out, because programs decide by them; large floats are not even drawn.

A kernel does nothing in a rehearsal, so a mask would be all zeros. Device memory is ordinary memory here: this mode
lets an operator allocate as it would, then writes into its result what the same operator gives on the host. An operator
whose result has a shape that depends on values reads a count back from the device. The count is worked out first, and
the stand-in hands it over as the answer to that copy.
"""

import ctypes

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from footprint_inside.known import hosted, is_known, is_small_and_exact, on_card, on_host, parts, remember, storage_of
from footprint_inside.read_back import READS

LARGE = 1 << 20
"""Elements from which the floating-point numbers of a tensor on the host are not written."""

aten = torch.ops.aten
_standin = ctypes.CDLL(None)


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
        reads = READS.get(function.overloadpacket)
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
    if name in _COPIES and not on_card(result) and on_card(args[name == "aten::copy_"]):
        _fetch(args[name == "aten::copy_"], result)
        return
    outputs = [part for leaf in tree_leaves(result) for part in parts(leaf) if on_card(part)]
    exact = [leaf for leaf in outputs if is_small_and_exact(leaf)]
    if not exact:
        return
    inputs = [part for leaf in tree_leaves((args, kwargs)) for part in parts(leaf)]
    places = {storage_of(leaf) for leaf in inputs if on_card(leaf)}
    if not function._schema.is_mutable and any(storage_of(leaf) in places for leaf in outputs):
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
            found = [part for leaf in tree_leaves(values) for part in parts(leaf)]
            for place, value in zip(outputs, found, strict=True):
                if place.numel():  # the host also gives what nobody asked for
                    on_host(place).copy_(value)
    return True


_COPIES = {"aten::_to_copy", "aten::copy_"}
_VIEWS_ONLY = {"aten::detach", "aten::alias", "aten::view", "aten::_unsafe_view"}
