"""One rank of several, alone: process groups of as many ranks as were asked for, of which only this one is there.

PyTorch's own process group that communicates nothing ("fake") stands in place of NCCL's and Gloo's. Nobody is waited
for: not at the rendezvous, not by a launcher, which starts the one process of the rank that is rehearsed.
"""

import importlib
import os
import subprocess
import sys
from urllib.parse import parse_qs, urlparse

from footprint_inside.refusal import refuse


class World:
    """The ranks there would be, and the one that is rehearsed."""

    def __init__(self, torch, ranks, rank):
        self.torch = torch
        self.ranks = ranks
        self.rank = rank
        self.started = False
        """Whether the program has started its process group."""

    def pretend(self):
        """From now on every process group is one of PyTorch's own that communicate nothing."""
        groups = importlib.import_module("torch.distributed.distributed_c10d")
        importlib.import_module("torch.testing._internal.distributed.fake_pg")  # whose name PyTorch knows from then on
        importlib.import_module("torch._dynamo")  # else at the first operator, where DeepSpeed may have changed tensors
        groups._new_process_group_helper = self._made(groups, groups._new_process_group_helper)
        groups.rendezvous = self._met
        groups._store_based_barrier = lambda *args, **kwargs: None
        launcher = importlib.import_module("torch.distributed.launcher.api")
        launcher.launch_agent = self._launch

    def _made(self, groups, make):
        """What makes every process group; its name stays that of the backend that was asked for."""

        def made(size, rank, ranks, backend, store, *args, **kwargs):
            if not ranks:  # the first group, of all
                self._begin(size, rank)
            kwargs.pop("backend_options", None)  # NCCL's
            kwargs.pop("pg_options", None)  # what they are called before PyTorch 2.6
            group, found = make(size, rank, ranks, _alike(groups, backend), store, *args, **kwargs)
            if group in groups._world.pg_map:
                groups._world.pg_map[group] = (groups.Backend(backend), groups._world.pg_map[group][1])
            return group, found

        return made

    def _met(self, url, rank=-1, world_size=-1, **kwargs):
        """A rendezvous at which nobody is waited for: a store, this rank and how many there are."""
        told = {name: values[0] for name, values in parse_qs(urlparse(url).query).items()}
        rank = rank if rank >= 0 else told.get("rank", os.environ["RANK"])
        size = world_size if world_size > 0 else told.get("world_size", os.environ["WORLD_SIZE"])
        yield self.torch.distributed.HashStore(), int(rank), int(size)

    def leave_unless_asked(self, rank):
        """End this process, as one that has done its work, where another rank is rehearsed."""
        if rank != self.rank:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def _begin(self, size, rank):
        if size != self.ranks:
            refuse(f"the program starts a process group of {size}, and --gpus says {self.ranks}")
        self.leave_unless_asked(rank)
        self.started = True

    def _launch(self, config, entrypoint, args, *others, **kwargs):
        """What torchrun and Accelerate start their processes with: here the one process that is rehearsed."""
        here, nodes = config.nproc_per_node, config.max_nodes
        if here * nodes != self.ranks:
            refuse(f"the launcher starts {here * nodes} processes, and --gpus says {self.ranks}")
        node, local = divmod(self.rank, here)
        card = os.environ["FOOTPRINT_CARD"].split(";")
        os.environ.update(
            {
                "FOOTPRINT_CARD": ";".join([*card[:-1], str(here)]),
                "RANK": str(self.rank),
                "WORLD_SIZE": str(self.ranks),
                "LOCAL_RANK": str(local),
                "LOCAL_WORLD_SIZE": str(here),
                "GROUP_RANK": str(node),
                "GROUP_WORLD_SIZE": str(nodes),
                "ROLE_RANK": str(self.rank),
                "ROLE_WORLD_SIZE": str(self.ranks),
                "TORCHELASTIC_RESTART_COUNT": "0",
                "TORCHELASTIC_MAX_RESTARTS": str(config.max_restarts),
                "TORCHELASTIC_RUN_ID": config.run_id or "none",
            }
        )
        if callable(entrypoint):
            return {local: entrypoint(*args)}
        returned = subprocess.run([entrypoint, *args]).returncode
        if returned:
            sys.exit(returned if returned > 0 else 128 - returned)
        return {local: None}


def _alike(groups, backend):
    """The devices of a backend such as `nccl` or `cpu:gloo,cuda:nccl`, each with the group that does nothing."""
    devices = groups.BackendConfig(groups.Backend(backend)).get_device_backend_map()
    return groups.Backend(",".join(f"{device}:fake" for device in devices))
