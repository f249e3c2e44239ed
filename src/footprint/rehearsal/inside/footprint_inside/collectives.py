"""What collectives give and what they take of the card's memory, where only one of the ranks is there.

Every other rank is taken to hold what this one holds. So a sum is as many times its own value, a maximum or a mean is
its own value, and what is gathered are copies of it. What only another rank knows (a broadcast from there, a scatter,
what is received) stays as it was before. Floating-point numbers are not computed here either.
"""

import importlib
from functools import wraps
from inspect import signature

import torch
from torch.utils._pytree import tree_leaves

from footprint_inside.known import hosted, is_known, is_small_and_exact, remember

REDUCING = (
    "all_reduce",
    "all_reduce_coalesced",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "reduce_scatter_single",
)
"""Functions of torch.distributed that are told how to reduce; older versions lack the last."""


class Collectives:
    """Carries out the operators of `c10d`. `noted` is called with the tensors that a collective gathers or reduces."""

    def __init__(self, noted):
        self._noted = noted
        self._reduction = "SUM"
        self._unbox = torch._C._distributed_c10d.ProcessGroup.unbox

    def watch(self):
        """Learn how each collective reduces; its operator hands that on where Python cannot read it."""
        groups = importlib.import_module("torch.distributed.distributed_c10d")
        for name in filter(groups.__dict__.__contains__, REDUCING):
            told = self._told(getattr(groups, name))
            setattr(groups, name, told)
            setattr(torch.distributed, name, told)

    def _told(self, function):
        parameters = signature(function)

        @wraps(function)
        def told(*args, **kwargs):
            reduction = parameters.bind(*args, **kwargs).arguments.get("op", torch.distributed.ReduceOp.SUM)
            names = torch.distributed.ReduceOp.RedOpType.__members__
            self._reduction = next((name for name, kind in names.items() if reduction == kind), "SUM")
            try:
                return function(*args, **kwargs)
            finally:
                self._reduction = "SUM"

        return told

    def carry_out(self, function, args, kwargs):
        """An operator of `c10d`: beside what PyTorch's empty process group does, its memory and its small integers."""
        name = function._schema.name.removeprefix("c10d::")
        beside = _taken_beside(name, args)
        self._noted([*beside, *_moved(name, args)])
        gives = _GIVES.get(name)
        values = [] if gives is None else list(gives(args, self._unbox(_group(args))))
        # Read before the process group writes: an output may be an input, too.
        wanted = [(output, self._value(source, reduced)) for output, source, reduced in values if _exact(output)]
        result = function(*args, **kwargs)
        for output, value in wanted:
            if value is not None:
                hosted(output).copy_(value.view(output.shape))
            remember(output, value is not None)
        return _done(result)

    def _value(self, source, ranks):
        """What `ranks` ranks with the same numbers give; None where they are not known."""
        if not is_known(source):
            return None
        own = hosted(source).clone()
        if ranks > 1 and self._reduction == "SUM":
            return own.bool() if own.dtype is torch.bool else own * ranks
        return own**ranks if ranks > 1 and self._reduction == "PRODUCT" else own


def _done(result):
    """An operator's result, with work whose future holds the tensors: DDP asks for them, and PyTorch's empty process
    group says nothing.
    """
    if not isinstance(result, tuple):
        return result
    tensors = [leaf for leaf in tree_leaves(result[0]) if isinstance(leaf, torch.Tensor)]
    future = torch.futures.Future(devices=sorted({leaf.device for leaf in tensors if leaf.is_cuda}, key=str))
    future.set_result(tensors)
    return result[0], torch._C._distributed_c10d._create_work_from_future(future).boxed()


def _exact(tensor):
    return is_small_and_exact(tensor) and tensor.numel()


def _group(args):
    """The process group among an operator's arguments."""
    return next(value for value in args if isinstance(value, torch.ScriptObject) and "ProcessGroup" in str(value))


def _taken_beside(name, args):
    """The tensors that NCCL's process group makes for itself while it carries out a collective.

    Lists of equal tensors pass through one that holds them all, and a barrier is the sum of one number.
    """
    if name == "barrier":
        return [torch.empty(1, device="cuda")] if torch.cuda.is_initialized() else []
    lists = {"allgather_": args[0], "reduce_scatter_": args[1]}.get(name, ())
    flat = []
    for tensors in lists:
        first = tensors[0]
        if first.is_cuda and all(tensor.shape == first.shape for tensor in tensors):
            flat.append(torch.empty((len(tensors), *first.shape), dtype=first.dtype, device=first.device))
    return flat


def _moved(name, args):
    """The tensors that a collective fills from all ranks, or hands to all of them to be reduced."""
    if name in ("_allgather_base_", "allgather_into_tensor_coalesced_"):
        found = args[0]
    elif name in ("_reduce_scatter_base_", "reduce_scatter_tensor_coalesced_"):
        found = args[1]
    else:
        found = args[0] if name.startswith("allreduce") else ()
    return [found] if isinstance(found, torch.Tensor) else list(found)


# What each operator gives: (an output, the tensor of this rank that it follows from, how many ranks are reduced).


def _reduced_in_place(args, group):
    return ((tensor, tensor, group.size()) for tensor in args[0])


def _listed(args, group):
    return ((output, own, 1) for outputs, own in zip(args[0], args[1], strict=False) for output in outputs)


def _gathered(args, group):
    for whole, own in _pairs(args):
        yield from ((part, own, 1) for part in whole.view(group.size(), *own.shape))


def _reduced_lists(args, group):
    return ((output, inputs[group.rank()], group.size()) for output, inputs in zip(args[0], args[1], strict=True))


def _reduced_parts(args, group):
    return ((part, whole.view(group.size(), *part.shape)[group.rank()], group.size()) for part, whole in _pairs(args))


def _pairs(args):
    return [(args[0], args[1])] if isinstance(args[0], torch.Tensor) else zip(args[0], args[1], strict=True)


_GIVES = {
    "allreduce_": _reduced_in_place,
    "allreduce_coalesced_": _reduced_in_place,
    "reduce_": _reduced_in_place,
    "allgather_": _listed,
    "gather_": _listed,
    "_allgather_base_": _gathered,
    "allgather_into_tensor_coalesced_": _gathered,
    "reduce_scatter_": _reduced_lists,
    "_reduce_scatter_base_": _reduced_parts,
    "reduce_scatter_tensor_coalesced_": _reduced_parts,
}
