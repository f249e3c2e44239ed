"""Fine-tuning of a Llama shape over several GPUs by FSDP2, without its weights: nothing is loaded or drawn.

    torchrun --nproc-per-node 8 benchmarks/peers/sharded.py CONFIG.json full|lora|qlora none|block TOKENS

Computation is in bf16 and gradients are reduced in fp32. What is trained lies in fp32 shards under fused AdamW: all in
full, adapters of rank 16 on every Linear of the blocks otherwise. Frozen weights lie in bf16 shards. Under qlora the
Linears of the blocks lie in NF4 with double quantization, stored as bf16 so that FSDP can shard them; their scales are
no parameters, and every rank holds all of them.
"""

import os
import sys

import bitsandbytes as bnb
import torch
import torch.distributed as dist
from bitsandbytes.functional import QuantState
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BLOCK = {"weights": 64, "scales": 256}
"""Numbers that share a scale, at either level of double quantization."""


def quantized(linear: nn.Linear) -> bnb.nn.Linear4bit:
    """A Linear of the same shape for NF4; its weight is not packed yet."""
    return bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=False,
        compute_dtype=torch.bfloat16,
        quant_type="nf4",
        quant_storage=torch.bfloat16,
        device="meta",
    )


def pack(linear: bnb.nn.Linear4bit) -> None:
    """Half a byte for each weight, and the scales on the card."""
    weights = linear.in_features * linear.out_features
    scales = weights // BLOCK["weights"]
    linear.weight = nn.Parameter(torch.empty(weights // 4, 1, dtype=torch.bfloat16, device="meta"), requires_grad=False)
    of_scales = QuantState(
        absmax=torch.empty(-(-scales // BLOCK["scales"]), device="cuda"),
        code=torch.empty(256, device="cuda"),
        blocksize=BLOCK["scales"],
        dtype=torch.float32,
    )
    linear.quant_state = QuantState(
        absmax=torch.empty(scales, dtype=torch.uint8, device="cuda"),
        shape=torch.Size((linear.out_features, linear.in_features)),
        code=torch.empty(16, device="cuda"),
        blocksize=BLOCK["weights"],
        quant_type="nf4",
        dtype=torch.bfloat16,
        offset=torch.empty((), device="cuda"),
        state2=of_scales,
    )


def built(config: LlamaConfig, regime: str) -> nn.Module:
    """The model on the meta device, with what the regime adds."""
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    if regime == "full":
        return model
    model = model.to(torch.bfloat16)
    if regime == "qlora":
        for layer in model.model.layers:
            for name, linear in list(layer.named_modules()):
                if isinstance(linear, nn.Linear):
                    parent, _, child = name.rpartition(".")
                    setattr(layer.get_submodule(parent), child, quantized(linear))
        model.is_loaded_in_4bit = True
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=list(LINEARS), lora_dropout=0.05))
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            pack(module)
    return model


def main(path: str, regime: str, checkpointing: str, tokens: str) -> None:
    """Train until the rehearsal ends it."""
    dist.init_process_group("nccl")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    config = LlamaConfig.from_json_file(path)
    model = built(config, regime)
    blocks = (model if regime == "full" else model.base_model.model).model.layers
    if checkpointing == "block":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    model.to_empty(device="cuda")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    while True:
        batch = torch.randint(0, config.vocab_size, (1, int(tokens)), device="cuda")
        model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


main(*sys.argv[1:])
