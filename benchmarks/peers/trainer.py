"""What a user of transformers' Trainer writes: a Llama from a checkpoint, PEFT, bitsandbytes, TrainingArguments."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from peers.huggingface import HALF, own
from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor, nn
from transformers import (
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from footprint.measure.recorded_run import RecordedRun
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec
from footprint.train.optimizers import LEARNING_RATES, Stepper
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
    with tempfile.TemporaryDirectory() as output:
        with run.phase("build"):
            run.model = _load(recipe, folder, run.spec)
            trainer = PhasedTrainer(run, _arguments(recipe, run.spec, len(tokens), output), tokens)
        trainer.train()
    return trainer.losses


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


class PhasedTrainer(Trainer):
    """The Trainer unchanged, but for the marks where a step's forward ends, its backward ends and its update ends."""

    def __init__(self, run: RecordedRun, arguments: TrainingArguments, tokens: list[Tensor]) -> None:
        self.losses: list[float] = []
        self._run = run
        self._open = ExitStack()
        rows = [row for batch in tokens for row in batch]
        super().__init__(
            model=run.model,
            args=arguments,
            train_dataset=[{"input_ids": row, "labels": row} for row in rows],
            callbacks=[_UpdateEnds(self)],
        )
        self.remove_callback(PrinterCallback)
        self.create_optimizer()
        run.stepper = Stepper(trainable(run.model), lambda _: self.optimizer)

    def enter(self, name: str | None) -> None:
        """End the phase under way and begin `name`, if any."""
        self._open.close()
        if name is not None:
            self._open.enter_context(self._run.phase(f"{self.state.global_step}/{name}", labelled=True))

    def training_step(self, *arguments: object, **named: object) -> Tensor:
        """Forward and backward of one batch."""
        self.enter("forward")
        loss = super().training_step(*arguments, **named)
        self.enter("step")  # clipping comes before the optimizer
        self.losses.append(loss.item())
        return loss

    def compute_loss(self, *arguments: object, **named: object) -> Tensor:
        """The forward pass; what follows it in `training_step` is backward."""
        loss = super().compute_loss(*arguments, **named)
        self.enter("backward")
        return loss


class _UpdateEnds(TrainerCallback):
    def __init__(self, trainer: PhasedTrainer) -> None:
        self._trainer = trainer

    def on_optimizer_step(self, *arguments: object, **named: object) -> None:
        self._trainer.enter(None)
