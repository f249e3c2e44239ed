"""Eight Linears of 1,024 on several GPUs as people write it: by DDP, FSDP2 or FSDP1, whichever is named."""

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group()
device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
torch.cuda.set_device(device)
told = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
print("told", *told.values(), "with", torch.cuda.device_count(), "cards")
model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(8))).to(device)
if sys.argv[1] == "ddp":
    model = DistributedDataParallel(model, device_ids=[device.index])
elif sys.argv[1] == "fsdp2":
    from torch.distributed.fsdp import fully_shard  # not there before PyTorch 2.6

    for layer in model:
        fully_shard(layer)
    fully_shard(model)
else:
    model = FullyShardedDataParallel(model, auto_wrap_policy=ModuleWrapPolicy({nn.Linear}), device_id=device)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
for _ in range(1_000_000):
    model(torch.randn(4, 1024, device=device)).sum().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
