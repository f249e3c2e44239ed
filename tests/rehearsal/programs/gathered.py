"""What a collective takes: 1 MiB gathered from every rank, into a list of tensors or into one, whichever is named."""

import sys

import torch
import torch.distributed as dist

dist.init_process_group("nccl")
own = torch.empty(2**20, dtype=torch.uint8, device="cuda")
if sys.argv[1] == "list":
    dist.all_gather([torch.empty_like(own) for _ in range(dist.get_world_size())], own)
else:
    dist.all_gather_into_tensor(own.new_empty(dist.get_world_size() * 2**20), own)
