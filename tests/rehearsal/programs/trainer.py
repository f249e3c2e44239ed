"""Transformers' own Trainer with PEFT: LoRA with dropout, bf16, checkpointing, accumulation, a paged 8-bit AdamW."""

import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

sizes = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2, "vocab_size": 1000}
model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).to(torch.bfloat16)
model = get_peft_model(model, LoraConfig(r=8, lora_dropout=0.05, target_modules=["q_proj", "v_proj", "up_proj"]))
tokens = torch.randint(0, 1000, (64, 64))
told = TrainingArguments(
    output_dir=sys.argv[1],
    per_device_train_batch_size=2,
    gradient_accumulation_steps=2,
    bf16=True,
    gradient_checkpointing=True,
    optim="paged_adamw_8bit",
    logging_steps=1,
    report_to=[],
    save_strategy="no",
)
Trainer(model=model, args=told, train_dataset=[{"input_ids": row, "labels": row} for row in tokens]).train()
