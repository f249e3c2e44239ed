"""One cell of the grid: which model is trained how, on which device."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.checks import one_of, require, whole
from footprint.spec.model import ModelSpec
from footprint.spec.precision import PRECISIONS
from footprint.spec.recipe import STACKS, PublishedModel, Recipe, check_axes, targets_named

REGIMES = ("full", "lora", "qlora")
OPTIMIZERS = ("adamw", "adamw-fused", "adamw-8bit", "paged-adamw")
CUDA_OPTIMIZERS = ("adamw-8bit", "paged-adamw")
QUANTIZATIONS = ("nf4", "nf4-double")
DEVICES = ("cpu", "cuda")
SHARDINGS = ("none", "ddp", "fsdp")
MOST_GPUS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """One cell of the grid: the axes of the contract, collapsed (an axis that does not apply is 0 or `none`)."""

    model: ModelSpec | PublishedModel
    """One that is known by its config.json alone goes with the stack `transformers` only."""
    regime: str
    rank: int = 8
    targets: str = "all-linear"
    checkpointing: str = "none"
    precision: str = "mixed"
    optimizer: str = "adamw"
    quantization: str = "nf4"
    batch: int = 4
    seq: int = 256
    stack: str = "minigpt"
    """Whose code trains: this project's own, or Transformers' Trainer with a published architecture."""
    gpus: int = 1
    """Processes that train together, each on a GPU of its own or, on the CPU, beside the others. They share a batch."""
    sharding: str = "none"
    """What several hold: `ddp` the whole model each, `fsdp` a share of every tensor (FSDP2)."""
    device: str = field(default="cpu", compare=False)
    """Where it is to run; decides which combinations exist, not which cell of the grid this is."""
    card: str | None = field(default=None, compare=False)
    """Key of the card that it is rehearsed on instead of measured (with `device` cuda)."""
    recipe: Recipe | None = field(default=None, compare=False)
    """What a run under Transformers has beside its axes, one for all runs of an experiment; None under MiniGPT."""

    def __post_init__(self) -> None:
        self._read("stack", STACKS)
        self._read("regime", REGIMES)
        published = self.stack == "transformers"
        object.__setattr__(self, "recipe", (self.recipe or Recipe()) if published else None)
        self._read_adapters(targets_named if published else ModelSpec.targets_named)
        if self.regime == "qlora":
            self._read("quantization", QUANTIZATIONS)
        else:
            self._read("quantization", (*QUANTIZATIONS, "none"))
            object.__setattr__(self, "quantization", "none")
        self._read("checkpointing", CHECKPOINTING)
        self._read("precision", tuple(PRECISIONS))
        self._read("optimizer", OPTIMIZERS)
        whole("batch", self.batch, 1, 65536)
        self._read_sharding()
        if published:
            check_axes(self.model, precision=self.precision, checkpointing=self.checkpointing, seq=self.seq)
        else:
            learned = ", where its learned positions end" if self.model.positions == "learned" else ""
            whole("seq", self.seq, 1, self.model.longest_seq, learned)
        self._read("device", DEVICES)
        require(self.card is None or self.device == "cuda", "card", self.card, "null unless device is cuda")
        require(
            self.device == "cuda" or self.optimizer not in CUDA_OPTIMIZERS,
            "optimizer",
            self.optimizer,
            "adamw or adamw-fused on the CPU (bitsandbytes optimizers need device: cuda)",
        )
        if isinstance(self.model, ModelSpec):
            widest = self.batch * self.seq * max(self.model.vocab, self.model.mlp_width, self.model.width)
            require(widest <= 2**40, "batch", self.batch, "a smaller batch x seq: one activation passes 2^40 elements")

    def _read_adapters(self, named: Callable[[ModelSpec | PublishedModel, object], str]) -> None:
        """Rank and targets; `named` gives the one name of a set of Linears."""
        full = self.regime == "full"
        whole("rank", self.rank, 0 if full else 1, 65536)
        targets = "none" if full and self.targets == "none" else named(self.model, self.targets)
        object.__setattr__(self, "rank", 0 if full else self.rank)
        object.__setattr__(self, "targets", "none" if full else targets)
        if full or self.stack == "transformers":
            return
        narrowest = min(min(self.model.linears[name]) for name in self.model.adapted(self.targets))
        allowed = f"at most {narrowest}, the narrowest adapted Linear of {self.model.name}"
        require(self.rank <= narrowest, "rank", self.rank, allowed)

    def _read_sharding(self) -> None:
        whole("gpus", self.gpus, 1, MOST_GPUS)
        self._read("sharding", SHARDINGS)
        if self.gpus == 1:
            object.__setattr__(self, "sharding", "none")
            return
        require(self.sharding != "none", "sharding", self.sharding, f"ddp or fsdp with {self.gpus} gpus")
        require(self.batch % self.gpus == 0, "batch", self.batch, f"a multiple of the {self.gpus} gpus, which share it")
        if self.sharding == "ddp":
            return
        sharded = self.stack == "minigpt" or self.device == "cuda"
        require(sharded, "sharding", self.sharding, "ddp for Transformers on the CPU, where Accelerate shards nothing")
        allowed = "adamw or adamw-fused with sharding fsdp (bitsandbytes steps no sharded tensors)"
        require(self.optimizer not in CUDA_OPTIMIZERS, "optimizer", self.optimizer, allowed)
        if isinstance(self.model, ModelSpec):
            rows = min(self.model.vocab, self.model.width, self.model.kv_width, self.model.mlp_width)
            allowed = f"at most {rows}, the rows of the narrowest weight matrix of {self.model.name}"
            require(self.gpus <= rows, "gpus", self.gpus, allowed)

    def _read(self, key: str, names: tuple[str, ...]) -> None:
        object.__setattr__(self, key, one_of(key, getattr(self, key), names))

    @property
    def positions(self) -> int:
        """Rows of the position table: those of the model, or more where rotary positions go on beyond its context."""
        context, beyond = self.model.context, self.seq - self.model.context
        # sizes may be arrays
        return context if self.model.positions == "learned" else context + (beyond > 0) * beyond

    @property
    def many_tokens(self) -> bool:
        """Whether a sequence has more than one token."""
        return self.seq > 1

    @property
    def reordered_heads(self) -> tuple[bool, bool]:
        """Whether turning a part of each head leaves queries, and keys, with heads before tokens."""
        model = self.model
        turned_apart = model.partly_rotary and self.seq > 1
        return turned_apart and model.heads > 1, turned_apart and model.kv_heads > 1

    @property
    def many_sequences(self) -> bool:
        """Whether a batch has more than one sequence."""
        return self.batch > 1

    @property
    def local_batch(self) -> int:
        """Sequences that one of its GPUs computes on."""
        return self.batch // self.gpus

    @property
    def alone(self) -> "RunSpec":
        """What one of its GPUs computes: the same run on a single one, with its share of the batch."""
        return replace(self, batch=self.local_batch, gpus=1)

    def axes(self) -> dict[str, str | int]:
        """The axis columns of every CSV, in contract order."""
        return {name: (self.model.name if name == "model" else getattr(self, name)) for name in AXES}

    def with_device(self, device: str) -> "RunSpec":
        """The same cell on another device; raises FootprintError where the combination does not exist there."""
        return replace(self, device=device)


AXES = tuple(f.name for f in fields(RunSpec) if f.compare)
"""Axis columns in contract order."""

AXIS_DEFAULTS = {f.name: f.default for f in fields(RunSpec) if f.compare and f.name not in ("model", "regime")}
"""Values of axes a sub-grid does not mention."""

STACK_DEFAULTS = {"minigpt": {}, "transformers": {"precision": "amp", "optimizer": "adamw-fused"}}
"""The same where a stack has its own: those of Trainer, which is told `bf16=True` by most."""
