"""What a user of transformers' Trainer writes: a Llama from a checkpoint, PEFT, bitsandbytes, TrainingArguments."""

import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from peers.huggingface import HALF, own
from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor, nn
from transformers import (
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    TrainingArguments,
)

from footprint.measure.recorded_run import RecordedRun
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec
from footprint.train.huggingface import PhasedTrainer
from footprint.train.optimizers import LEARNING_RATES
from footprint.train.regimes import LORA_ALPHA_PER_RANK, trainable


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How the Trainer is set up. What is not said is the Trainer's, PEFT's or bitsandbytes' own default."""

    name: str
    regime: str
    weights: torch.dtype
    """The dtype that `from_pretrained` is asked for; of what is not quantized."""
    autocast: bool
    """`TrainingArguments(bf16=...)`."""
    half_adapters: bool = False
    """PEFT makes fp32 adapters; whether they are bf16 all the same, as TRL has them on a quantized base."""
    prepared: bool = False
    """Whether `prepare_model_for_kbit_training` was called."""
    checkpointing: bool = False
    nearest: str = "bf16"
    """The `precision` of ours whose tensors are most like these."""

    def ours(self, model: ModelSpec, **axes: int) -> RunSpec:
        """The run of ours that is nearest; the Trainer's default optimizer is PyTorch's fused AdamW."""
        return RunSpec(
            model=model,
            regime=self.regime,
            precision=self.nearest,
            checkpointing="block" if self.checkpointing else "none",
            optimizer="adamw-fused",
            **axes,
        )


def llama_config(model: ModelSpec) -> LlamaConfig:
    """Transformers' Llama with the sizes of a `llama` block model."""
    return LlamaConfig(
        vocab_size=model.vocab,
        hidden_size=model.width,
        intermediate_size=model.mlp_width,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        max_position_embeddings=model.context,
        tie_word_embeddings=model.tied_head,
        attn_implementation="sdpa",
    )


def trainer_program(recipe: Recipe, folder: str, run: RecordedRun, tokens: list[Tensor]) -> list[float]:
    """Train the checkpoint in `folder` by the Trainer itself, in the phases of `run`; every step's loss."""
    data = [{"input_ids": row, "labels": row} for batch in tokens for row in batch]

    def phase(step: int, name: str, last: bool) -> AbstractContextManager:
        return run.phase(f"{step}/{name}", labelled=last)

    with tempfile.TemporaryDirectory() as output:
        with run.phase("build"):
            run.model = _load(recipe, folder, run.spec)
            told = _arguments(recipe, run.spec, len(tokens), output)
            run.stepper = PhasedTrainer(run.model, told, data, phase, run.begin)
        run.stepper.train()
    return run.stepper.losses


def _load(recipe: Recipe, folder: str, spec: RunSpec) -> nn.Module:
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=HALF)
    model = LlamaForCausalLM.from_pretrained(
        folder,
        dtype=recipe.weights,
        device_map={"": spec.device},
        quantization_config=nf4 if recipe.regime == "qlora" else None,
    )
    own(model)
    if recipe.prepared:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=recipe.checkpointing)
    if recipe.regime == "full":
        return model
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=LORA_ALPHA_PER_RANK * spec.rank,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
    )
    model = get_peft_model(model, config, autocast_adapter_dtype=not recipe.half_adapters)
    if recipe.half_adapters:
        for parameter in trainable(model):  # those on NF4 weights would be fp32 all the same
            parameter.data = parameter.data.to(HALF)
    return model


def _arguments(recipe: Recipe, spec: RunSpec, steps: int, output: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=output,
        use_cpu=spec.device == "cpu",
        bf16=recipe.autocast,
        activation_checkpointing=recipe.checkpointing,
        per_device_train_batch_size=spec.batch,
        max_steps=steps,
        learning_rate=LEARNING_RATES[spec.regime],
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
