"""Supervised fine-tuning as TRL does it: NF4, LoRA with dropout, 8-bit AdamW, accumulation, clipping, evaluation."""

import sys

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

folder, optimizer = sys.argv[1:]
words = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *"abcdefgh"])}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 2, "num_attention_heads": 4}
LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes)).save_pretrained(folder)
model = LlamaForCausalLM.from_pretrained(
    folder,
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    ),
    device_map={"": 0},
)
rows = [{"prompt": "a b c " * (number % 5 + 1), "completion": "d e f " * (number % 7 + 1)} for number in range(32)]
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows),
    eval_dataset=Dataset.from_list(rows[:4]),
    peft_config=LoraConfig(r=8, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"),
    args=SFTConfig(
        output_dir=folder,
        max_steps=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        gradient_checkpointing=True,
        max_grad_norm=0.3,
        optim=optimizer,
        bf16=True,
        eval_strategy="steps",
        eval_steps=2,
        save_steps=2,
        logging_steps=1,
        report_to=[],
        max_length=64,
    ),
)
trainer.train()
print("trained to the end")
