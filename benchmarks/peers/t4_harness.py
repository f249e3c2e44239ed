"""One run of the T4 archive, carried out as its harness did: ANSWER CHECKPOINT QUANT KERNEL RANK BATCH SEQ.

Writes the peaks in MiB as JSON. What the harness does is told in benchmarks/published/README.md.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

MiB = 2**20
answer, checkpoint, quant, kernel, *sizes = sys.argv[1:]
rank, batch, seq = map(int, sizes)


def built():
    """The model with its adapters, ready to train, and its optimizer."""
    told = {"dtype": torch.float16, "attn_implementation": "eager" if kernel == "eager" else "sdpa"}
    if quant == "nf4":
        four_bit = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float16
        )
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint, quantization_config=four_bit, device_map={"": 0}, **told
        )
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    else:
        model = AutoModelForCausalLM.from_pretrained(checkpoint, **told).cuda()
    model.config.use_cache = False
    adapters = {"r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0, "bias": "none", "task_type": "CAUSAL_LM"}
    model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], **adapters))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    return model, torch.optim.AdamW(trained)


def memory_efficient(q, k, v, *args, attention=functional.scaled_dot_product_attention, enable_gqa=False, **told):
    """Attention by the memory-efficient kernel, grouped heads expanded before the call."""
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        return attention(q, k, v, *args, **told)


def step(model, optimizer, tokens, reached=None):
    """One step; `reached` is told the peak of each phase, each from a reset before it."""

    def ends(phase):
        if reached is not None:
            reached[f"{phase}_peak_mib"] = torch.cuda.max_memory_allocated() / MiB
            torch.cuda.reset_peak_memory_stats()

    optimizer.zero_grad(set_to_none=True)
    ends("zero_grad")
    output = model(input_ids=tokens, labels=tokens)  # its logits live until this function returns
    ends("forward")
    output.loss.backward()
    ends("backward")
    optimizer.step()
    ends("step")


torch.manual_seed(0)
torch.cuda.empty_cache()
torch.cuda.reset_peak_memory_stats()
if kernel != "eager":
    functional.scaled_dot_product_attention = memory_efficient
model, optimizer = built()
found = {"resident_mib": torch.cuda.memory_allocated() / MiB}
tokens = torch.randint(0, model.config.vocab_size, (batch, seq), device="cuda")
step(model, optimizer, tokens)
torch.cuda.reset_peak_memory_stats()
step(model, optimizer, tokens)
found["allocated_peak_mib"] = torch.cuda.max_memory_allocated() / MiB
found["reserved_peak_mib"] = torch.cuda.max_memory_reserved() / MiB
step(model, optimizer, tokens, found)
del found["zero_grad_peak_mib"]
Path(answer).write_text(json.dumps(found))
