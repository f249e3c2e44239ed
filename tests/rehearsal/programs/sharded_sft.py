"""TRL's SFTTrainer with PEFT on several GPUs; how they share the model, `accelerate launch` says."""

import sys

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

words = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *"abcdefgh"])}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 2, "num_attention_heads": 4}
rows = [{"prompt": "a b c " * (number % 5 + 1), "completion": "d e f " * (number % 7 + 1)} for number in range(64)]
trainer = SFTTrainer(
    model=LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes)).to(torch.bfloat16),
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows),
    peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    args=SFTConfig(
        output_dir=sys.argv[1],
        max_steps=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        bf16=True,
        logging_steps=1,
        report_to=[],
        max_length=64,
        save_strategy="no",
    ),
)
trainer.train()
print("trained to the end")
