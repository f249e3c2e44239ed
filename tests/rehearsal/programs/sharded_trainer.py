"""Transformers' Trainer on several GPUs: its own `fsdp=` in the version that is named, bf16, checkpointing."""

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

folder, version = sys.argv[1:]
sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "vocab_size": 1000}
model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4))
tokens = torch.randint(0, 1000, (64, 64))
told = TrainingArguments(
    output_dir=folder,
    per_device_train_batch_size=2,
    bf16=True,
    fsdp="full_shard auto_wrap",
    fsdp_config={
        "version": int(version),
        "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"],
        "activation_checkpointing": True,
    },
    logging_steps=1,
    max_steps=3,
    report_to=[],
    save_strategy="no",
)
Trainer(model=model, args=told, train_dataset=[{"input_ids": row, "labels": row} for row in tokens]).train()
print("trained to the end")
