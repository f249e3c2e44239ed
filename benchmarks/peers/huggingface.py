"""What a Hugging Face user writes: GPT-2 from a checkpoint, adapters by PEFT, NF4 by bitsandbytes, a plain loop."""

import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

# Read when transformers is imported: a local folder needs no network, and bars of progress are no results.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}

import torch
from bitsandbytes.nn import Params4bit
from peft import LoraConfig, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel

from footprint.spec.model import ModelSpec
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import RunSpec
from footprint.train.minigpt import MiniGPT
from footprint.train.optimizers import LEARNING_RATES, Stepper
from footprint.train.regimes import LORA_ALPHA_PER_RANK, dtype_of, trainable

HALF = torch.bfloat16

Phase = Callable[[int, str], AbstractContextManager]


def gpt2_config(model: ModelSpec) -> GPT2Config:
    """GPT-2 with the sizes and the function of a `gpt` block model: exact GELU, no dropout, a head of its own."""
    return GPT2Config(
        vocab_size=model.vocab,
        n_positions=model.context,
        n_embd=model.width,
        n_layer=model.layers,
        n_head=model.heads,
        n_inner=model.mlp_width,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=model.tied_head,
        use_cache=False,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
    )


@torch.no_grad()
def as_gpt2(model: MiniGPT) -> GPT2LMHeadModel:
    """The same network as transformers' GPT-2, in fp32: Conv1D keeps weights transposed and fuses q, k and v."""
    twin = GPT2LMHeadModel(gpt2_config(model.spec))
    twin.transformer.wte.weight.copy_(model.tokens.weight)
    twin.transformer.wpe.weight.copy_(model.positions.weight)
    twin.transformer.ln_f.load_state_dict(model.norm.state_dict())
    twin.lm_head.weight.copy_(model.head.weight)
    for block, theirs in zip(model.blocks, twin.transformer.h, strict=True):
        attention, mlp = block.attention, block.mlp
        theirs.ln_1.load_state_dict(block.attention_norm.state_dict())
        theirs.ln_2.load_state_dict(block.mlp_norm.state_dict())
        _fuse(theirs.attn.c_attn, attention.q_proj, attention.k_proj, attention.v_proj)
        _fuse(theirs.attn.c_proj, attention.o_proj)
        _fuse(theirs.mlp.c_fc, mlp.up_proj)
        _fuse(theirs.mlp.c_proj, mlp.down_proj)
    return twin


def _fuse(conv1d: nn.Module, *linears: nn.Linear) -> None:
    conv1d.weight.copy_(torch.cat([linear.weight for linear in linears]).T)
    conv1d.bias.copy_(torch.cat([linear.bias for linear in linears]))


def load(folder: str, spec: RunSpec, *, same_parameters: bool = True) -> nn.Module:
    """The model of a Hugging Face user, ready to train on `spec.device`: from a checkpoint, adapters by PEFT.

    One adapter of rank r on the fused c_attn has 4 r x width parameters where three on q, k and v have 6 r x width;
    with `same_parameters` its rank is 1.5 r, so that both sides train as many. Without it every rank is r.
    """
    precision, frozen = PRECISIONS[spec.precision], spec.regime != "full"
    dtype = dtype_of(precision.base if frozen else precision.trained, HALF)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    model = GPT2LMHeadModel.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": spec.device},
        quantization_config=nf4 if spec.regime == "qlora" else None,
    )
    own(model)
    if frozen:
        model = _adapted(model, spec, fused_rank=spec.rank * 3 // 2 if same_parameters else spec.rank)
    return model.train()


def own(model: nn.Module) -> None:
    """Copy what lies in the checkpoint's mapped file or came from threads that the recorder cannot see.

    NF4 weights stay: they were quantized in this thread.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if not isinstance(tensor, Params4bit):
            tensor.data = tensor.data.clone()


def _adapted(model: nn.Module, spec: RunSpec, *, fused_rank: int) -> nn.Module:
    trained = dtype_of(PRECISIONS[spec.precision].trained, HALF)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=LORA_ALPHA_PER_RANK * spec.rank,
        rank_pattern={"c_attn": fused_rank},
        alpha_pattern={"c_attn": LORA_ALPHA_PER_RANK * fused_rank},
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT notices by itself that Conv1D keeps its weight transposed
        model = get_peft_model(model, config, autocast_adapter_dtype=trained == torch.float32)
    for parameter in trainable(model):  # those on NF4 weights would be fp32 all the same
        parameter.data = parameter.data.to(trained)
    return model


def user_optimizer(model: nn.Module, spec: RunSpec) -> Stepper:
    """AdamW as PyTorch runs it on CUDA by default, which is what `optimizer: adamw` means on both devices."""
    return Stepper(trainable(model), partial(torch.optim.AdamW, lr=LEARNING_RATES[spec.regime], foreach=True))


def plain_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Tensor],
    spec: RunSpec,
    phase: Phase = lambda step, name: nullcontext(),
) -> list[float]:
    """The training loop of a user; the loss of every step. `phase(step, name)` wraps each phase."""
    losses = []
    for number, tokens in enumerate(batches):
        with phase(number, "forward"):
            tokens = tokens.to(spec.device)
            with torch.autocast(spec.device, HALF, enabled=PRECISIONS[spec.precision].autocast):
                outputs = model(input_ids=tokens, labels=tokens)
        with phase(number, "backward"):
            outputs.loss.backward()
        with phase(number, "step"):
            optimizer.step()
        optimizer.zero_grad()
        losses.append(outputs.loss.item())
    return losses
