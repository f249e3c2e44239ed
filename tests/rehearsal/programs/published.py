"""What somebody writes who fine-tunes a Qwen3 from its config.json: LoRA by PEFT under Transformers' Trainer."""

import sys

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

folder, output = sys.argv[1:]
with torch.device("cuda"):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
model.config.use_cache = False
told = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear", task_type=TaskType.CAUSAL_LM)
model = get_peft_model(model, told)
tokens = torch.randint(0, model.config.vocab_size, (8, 256))
arguments = TrainingArguments(
    output_dir=output,
    per_device_train_batch_size=4,
    bf16=True,
    max_steps=2,
    save_strategy="no",
    report_to=[],
    dataloader_pin_memory=False,
)
Trainer(model=model, args=arguments, train_dataset=[{"input_ids": row, "labels": row} for row in tokens]).train()
