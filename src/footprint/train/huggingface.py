"""The stack that most people fine-tune with: a model of Transformers under its Trainer, PEFT's adapters, bitsandbytes.

Nothing is fetched: a model is made from its config.json, or loaded from a checkpoint that is here. It goes the way of
every checkpoint, `from_pretrained`, so that what loading and quantizing leave behind is as it is for everybody.
"""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PretrainedConfig,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from footprint.errors import FootprintError, in_one_line
from footprint.spec.checks import require
from footprint.spec.recipe import config_of, half_adapters, half_weights, modules_of, under_autocast
from footprint.spec.run import RunSpec
from footprint.train.optimizers import LEARNING_RATES
from footprint.train.regimes import HALF_TYPES, LORA_ALPHA_PER_RANK, Fill, trainable

disable_progress_bar()
set_verbosity_error()

OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adamw-fused": "adamw_torch_fused",
    "adamw-8bit": "adamw_bnb_8bit",
    "paged-adamw": "paged_adamw_32bit",
}
"""What Trainer calls them."""

TARGETS = {
    "all-linear": "all-linear",
    "attention": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "qv": ["q_proj", "v_proj"],
}
"""What PEFT is given for a set with a name."""

LEFT_OUT = "auto_map", "quantization_config"
"""Keys of a config.json that nothing is made of: code that would have to be fetched, and how a checkpoint is stored."""

IGNORED = -100
"""Label of a token that no loss is taken of."""

Phase = Callable[[int, str, bool], AbstractContextManager]
"""A phase of a step by its number and name, and whether it is the last of that name in the step."""

Begun = Callable[[nn.Module], None]
"""Told of the model as it trains, wrapped or sharded, before the first step."""


def prepare(run: RunSpec, fill: Fill | None) -> nn.Module:
    """The model as it trains: loaded, quantized, with its adapters.

    `fill` draws the weights of one that is made from a config; without it nobody will look at them.

    Raises FootprintError for a config that Transformers cannot make a decoder of, and targets that it does not have.
    """
    model = _load(run, fill)
    _require_positions(model, run)
    model.config.use_cache = False
    if run.regime == "qlora" and run.recipe.prepared:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=run.checkpointing != "none")
    return model if run.regime == "full" else _adapted(model, run)


def _require_positions(model: nn.Module, run: RunSpec) -> None:
    """Raise FootprintError where a sequence is longer than a table of learned positions; rotary ones go on."""
    context = getattr(model.config, "max_position_embeddings", None)
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    learned = any(
        table is not model.get_input_embeddings() and table.num_embeddings in (context, (context or 0) + 2)
        for table in tables
    )
    require(not learned or run.seq <= context, "seq", run.seq, f"at most {context}: its positions are learned")


def _load(run: RunSpec, fill: Fill | None) -> nn.Module:
    half = HALF_TYPES[run.recipe.half]
    dtype = half if half_weights(run.regime, run.precision) else torch.float32
    told = {"dtype": dtype, "device_map": {"": run.device}}
    if run.recipe.attention != "auto":
        told["attn_implementation"] = run.recipe.attention
    if run.regime == "qlora":
        told["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=run.quantization == "nf4-double",
            bnb_4bit_compute_dtype=dtype,
        )
    folder = run.recipe.weights
    kind, weights = AutoModelForCausalLM, {}
    if folder is None:
        config = _config(config_of(run.model))
        kind, drawn = _drawn(config, dtype, fill)
        weights = {"config": config, "state_dict": drawn}
    else:
        require((Path(folder) / "config.json").is_file(), "transformers.weights", folder, "a folder with a config.json")
    try:
        model = kind.from_pretrained(folder, **weights, **told)
    except (ValueError, OSError) as error:
        raise FootprintError(f"{run.model.name}: Transformers does not load it ({in_one_line(error)})") from None
    if folder is not None and run.device == "cpu":
        _take_from_file(model)
    return model


def _take_from_file(model: nn.Module) -> None:
    """Give weights that lie in a mapped file memory of their own, as they have on a GPU: what trains is counted."""
    for parameter in model.parameters():
        if getattr(parameter, "quant_state", None) is None:
            parameter.data = parameter.data.clone()


def _config(text: str) -> PretrainedConfig:
    """Transformers' own reading of a config.json."""
    with tempfile.TemporaryDirectory() as folder:
        told = {name: value for name, value in json.loads(text).items() if name not in LEFT_OUT}
        (Path(folder) / "config.json").write_text(json.dumps(told), encoding="utf-8")
        try:
            return AutoConfig.from_pretrained(folder)
        except Exception as error:  # noqa: BLE001, for a config's class may stumble over anything
            said = in_one_line(error).replace(folder, "the config")
            raise FootprintError(f"hf-config: Transformers cannot read it ({said})") from None


def _drawn(
    config: PretrainedConfig, dtype: torch.dtype, fill: Fill | None
) -> tuple[type[nn.Module], dict[str, Tensor]]:
    """The class of a config's model, and a checkpoint of it: each tensor once, though two modules may share it."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    except Exception as error:  # noqa: BLE001, for a model's class may too
        raise FootprintError(f"hf-config: Transformers makes no decoder of it ({in_one_line(error)})") from None
    return type(model), {name: _weight(p.shape, dtype, fill, name) for name, p in model.named_parameters()}


def _weight(shape: torch.Size, dtype: torch.dtype, fill: Fill | None, name: str) -> Tensor:
    weight = torch.empty(shape, dtype=dtype)  # whose pages take no memory until they are written
    if fill is not None:
        fill(weight, name)
    return weight


def _adapted(model: nn.Module, run: RunSpec) -> nn.Module:
    config = LoraConfig(
        r=run.rank,
        lora_alpha=LORA_ALPHA_PER_RANK * run.rank,
        lora_dropout=run.recipe.dropout,
        target_modules=TARGETS.get(run.targets) or modules_of(run.targets),
        task_type=TaskType.CAUSAL_LM,
    )
    try:
        model = get_peft_model(model, config, autocast_adapter_dtype=not half_adapters(run.precision))
    except ValueError as error:
        if "lora_dropout" in str(error):
            raise FootprintError(
                f"dropout: {run.recipe.dropout} is not allowed; use 0 ({in_one_line(error)})"
            ) from None
        asked_for = f"{run.targets} with dropout {run.recipe.dropout:g}"
        raise FootprintError(f"targets: PEFT puts no adapters on {asked_for} ({in_one_line(error)})") from None
    if half_adapters(run.precision):
        for parameter in trainable(model):  # those on NF4 weights would be fp32 all the same
            parameter.data = parameter.data.to(HALF_TYPES[run.recipe.half])
    return model


def examples(run: RunSpec, sequences: Iterable[Tensor]) -> list[dict[str, Tensor]]:
    """The sequences, int64 (S,) each, with their labels; padded ones have an `attention_mask`."""
    found = []
    for number, tokens in enumerate(sequences):
        if run.recipe.batches == "packed":
            found.append({"input_ids": tokens, "labels": tokens.clone()})
            continue
        length = run.seq if number % run.local_batch == 0 else -(-run.seq // 2)
        mask = (torch.arange(run.seq) < length).long()
        labels = tokens.masked_fill(mask == 0, IGNORED)
        found.append({"input_ids": tokens * mask, "attention_mask": mask, "labels": labels})
    return found


def random_sequences(run: RunSpec, steps: int, vocab: int, seed: int = 0) -> Tensor:
    """Tokens for so many steps, int64 (sequences, S)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab, (steps * run.batch * run.recipe.accumulation, run.seq), generator=generator)


class PhasedTrainer(Trainer):
    """The Trainer unchanged, but for the marks where a step's forward ends, its backward ends and its update ends."""

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        data: list,
        phase: Phase,
        begun: Begun,
    ) -> None:
        self.losses: list[float] = []
        self.begun = begun
        self._phase, self._open, self._batches = phase, ExitStack(), 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().__init__(model=model, args=arguments, train_dataset=data, callbacks=[_UpdateEnds(self)])
        self.remove_callback(PrinterCallback)
        if not self.is_fsdp_enabled:  # which steps what training begins with: shares
            self.create_optimizer()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is stepped."""
        return trainable(self.model)

    def masters(self) -> tuple[Tensor, ...]:
        """There are none."""
        return ()

    def states(self) -> Iterator[Tensor]:
        """Every tensor the optimizer keeps between steps."""
        for state in self.optimizer.state.values() if self.optimizer is not None else ():
            yield from (value for value in state.values() if isinstance(value, Tensor))

    def _get_train_sampler(self, *arguments: object) -> None:
        return None  # in order: padding is told by a sequence's number

    def enter(self, name: str | None) -> None:
        """End the phase under way and begin `name`, if any."""
        self._open.close()
        if name is not None:
            last = self._batches % self.args.gradient_accumulation_steps == 0
            self._open.enter_context(self._phase(self.state.global_step, name, last))

    def training_step(self, *arguments: object, **named: object) -> Tensor:
        """Forward and backward of one batch."""
        self._batches += 1
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

    def on_train_begin(self, *arguments: object, **named: object) -> None:
        self._trainer.begun(self._trainer.model)

    def on_optimizer_step(self, *arguments: object, **named: object) -> None:
        self._trainer.enter(None)


def trainer_of(
    model: nn.Module,
    run: RunSpec,
    steps: int,
    data: list[dict[str, Tensor]] | None,
    phase: Phase,
    begun: Begun,
) -> PhasedTrainer:
    """The Trainer of a run for so many steps, on `data` (see `examples`), or else on random tokens."""
    if data is None:
        vocab = model.get_input_embeddings().weight.shape[0]
        data = examples(run, random_sequences(run, steps, vocab))
    with tempfile.TemporaryDirectory() as folder:
        return PhasedTrainer(model, _arguments(run, steps, folder), data, phase, begun)


def _arguments(run: RunSpec, steps: int, folder: str) -> TrainingArguments:
    autocast = under_autocast(run.recipe, run.precision)
    recomputed = run.checkpointing != "none"
    sharded = {}
    if run.sharding == "fsdp":
        # Trainer wants FSDP's own checkpointing beside FSDP.
        sharded = {"fsdp": True, "fsdp_config": {"activation_checkpointing": recomputed}}
    return TrainingArguments(
        output_dir=folder,
        use_cpu=run.device == "cpu",
        bf16=autocast and run.recipe.half == "bf16",
        fp16=autocast and run.recipe.half == "fp16",
        optim=OPTIMIZERS[run.optimizer],
        activation_checkpointing=recomputed and not sharded,
        per_device_train_batch_size=run.local_batch,
        gradient_accumulation_steps=run.recipe.accumulation,
        max_grad_norm=run.recipe.clipping,
        max_steps=steps,
        learning_rate=LEARNING_RATES[run.regime],
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **sharded,
    )
