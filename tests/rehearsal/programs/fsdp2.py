"""Full fine-tuning of a LLaMA under FSDP2: bf16 compute, fp32 shards, fused AdamW, every layer checkpointed."""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

sizes = {name: int(value) for name, value in (option.split("=") for option in sys.argv[1:])}
tokens = sizes.pop("tokens", 2048)

dist.init_process_group("nccl")
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
with torch.device("meta"):
    model = LlamaForCausalLM(LlamaConfig(**sizes))  # its defaults are those of 7B
model.gradient_checkpointing_enable({"use_reentrant": False})
policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
for layer in model.model.layers:
    fully_shard(layer, mp_policy=policy)
fully_shard(model, mp_policy=policy)
model.to_empty(device="cuda")
model.train()
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
while True:
    batch = torch.randint(0, 1000, (1, tokens), device="cuda")
    model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
