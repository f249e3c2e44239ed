"""One rank of a process group whose other ranks are not there.

Groups are made by PyTorch's own fake backend: a collective allocates what its caller does, moves nothing, and gives a
rank its own values. Backends keep their names, since programs and PyTorch itself choose by them. What NCCL allocates
through PyTorch for a collective is allocated here too.
"""

import json
import os

PLACE = json.loads(os.environ.get("FOOTPRINT_GROUP") or '{"rank": 0, "world": 1}')
"""`rank` is the one that is rehearsed, `world` how many there are."""

started = {}
"""`world`: the size of the group that the program started, once it has."""


def leave_to_others():
    """End this process if a launcher started it as another rank than the one that is rehearsed."""
    if PLACE["world"] > 1 and int(os.environ.get("RANK", PLACE["rank"])) != PLACE["rank"]:
        os._exit(0)


def refuse(sentence):
    """End the rehearsal as a whole."""
    refusal = os.environ.get("FOOTPRINT_REFUSAL")
    if refusal:
        with open(refusal, "w") as file:
            file.write(f"{sentence}.\n")
    raise RuntimeError(sentence)


def pretend(torch):
    """Let process groups be made without their other ranks from now on."""
    import torch.distributed as dist

    if not dist.is_available():
        return
    from torch.distributed import distributed_c10d as c10d
    from torch.testing._internal.distributed import fake_pg

    fake = fake_pg.FakeProcessGroup
    make = getattr(fake, "_create_internal", fake)

    fake._set_sequence_number_for_group = lambda group: None  # PyTorch numbers the collectives of NCCL's groups

    class Pretended(type):
        """The class of classes that make fake groups and pass for another."""

        def __call__(cls, store, rank, size, *options, **named):
            return make(rank, size)

        def __instancecheck__(cls, group):
            return isinstance(group, fake)

    def pretended(real):
        return Pretended(real.__name__, (), {"Options": getattr(real, "Options", None)})

    def replace(name, make_other):
        original = getattr(c10d, name, None)
        if original is None:
            return
        other = make_other(original)
        for module in (c10d, dist):
            if getattr(module, name, None) is original:
                setattr(module, name, other)

    for name in ("ProcessGroupNCCL", "ProcessGroupGloo"):
        replace(name, pretended)
    replace("init_process_group", lambda original: _started_alone(original, dist))
    replace("_new_process_group_helper", lambda original: _on_the_host_too(original, torch, c10d, make))
    replace("all_gather", lambda original: _with_a_flat_copy(original, torch, of=0))
    replace("reduce_scatter", lambda original: _with_a_flat_copy(original, torch, of=1))
    replace("barrier", lambda original: _with_one_element(original, torch))
    for name, other in _OBJECTS.items():
        replace(name, lambda original, other=other: other)


def _started_alone(original, dist):
    def init_process_group(backend=None, init_method=None, timeout=None, world_size=-1, rank=-1, *others, **named):
        rank = int(os.environ.get("RANK", 0)) if rank < 0 else rank
        world = int(os.environ.get("WORLD_SIZE", 1)) if world_size < 0 else world_size
        if world != PLACE["world"]:
            refuse(f"the program starts a group of {world} ranks, and --gpus says {PLACE['world']}; say --gpus {world}")
        if rank != PLACE["rank"]:
            os._exit(0)
        started["world"] = world
        named.pop("device_id", None)  # communicators would be made at once
        named["store"] = dist.HashStore()
        return original(backend, None, timeout, world, rank, *others[1:], **named)

    return init_process_group


def _on_the_host_too(original, torch, c10d, make):
    """Small integers are carried out on the host, with the same operators: their groups need a backend there."""

    def _new_process_group_helper(*arguments, **named):
        made = original(*arguments, **named)
        group = made[0]
        if isinstance(group, c10d.ProcessGroup) and torch.device("cpu") not in group._device_types:
            backend, name = make(group.rank(), group.size()), group.group_name
            group._register_backend(torch.device("cpu"), c10d.ProcessGroup.BackendType.CUSTOM, backend)
            group._set_group_name(name)
        return made

    return _new_process_group_helper


def _with_a_flat_copy(original, torch, of):
    """NCCL gathers into one tensor, and scatters from one: beside a list there is as much again meanwhile."""

    def collective(*arguments, **named):
        tensors = arguments[of] if len(arguments) > of else named.get(("tensor_list", "input_list")[of], ())
        like = [tensor for tensor in tensors if tensor.is_cuda][:1]
        flat = [torch.empty(len(tensors) * one.numel(), dtype=one.dtype, device=one.device) for one in like]
        work = original(*arguments, **named)
        del flat
        return work

    return collective


def _with_one_element(original, torch):
    """A barrier of NCCL's is a sum of one element."""

    def barrier(*arguments, **named):
        element = torch.zeros(1, device="cuda") if torch.cuda.is_initialized() else None
        work = original(*arguments, **named)
        del element
        return work

    return barrier


def _all_gather_object(object_list, obj, group=None):
    object_list[:] = [obj] * len(object_list)


def _gather_object(obj, object_gather_list=None, dst=None, group=None, group_dst=None):
    if object_gather_list is not None:
        object_gather_list[:] = [obj] * len(object_gather_list)


def _broadcast_object_list(object_list, src=None, group=None, device=None, group_src=None, **named):
    """What is broadcast is what this rank has."""


def _scatter_object_list(output, objects=None, src=None, group=None, group_src=None):
    if objects:
        output[0] = objects[PLACE["rank"] % len(objects)]


_OBJECTS = {
    "all_gather_object": _all_gather_object,
    "gather_object": _gather_object,
    "broadcast_object_list": _broadcast_object_list,
    "scatter_object_list": _scatter_object_list,
}
"""Collectives of Python objects: every rank is taken to have what this one has."""
