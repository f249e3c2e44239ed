"""Full, LoRA and QLoRA differ only here: how a MiniGPT is prepared before the one training loop takes it."""

import warnings
from collections.abc import Callable
from functools import partial

import bitsandbytes as bnb
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from footprint.spec.precision import FULL, PRECISIONS
from footprint.spec.run import RunSpec
from footprint.train.minigpt import MiniGPT, Rotary, initialise
from footprint.train.sharding import distributed, shard

LORA_ALPHA_PER_RANK = 2
"""LoRA scales its update by alpha / rank; twice the rank keeps that factor at 2 for every rank."""


HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Fill = Callable[[Tensor, str], None]
"""Writes the values of the parameter with that name into a tensor of its shape."""


def prepare(spec: RunSpec, *, half: torch.dtype, seed: int, fill: Fill | None = None) -> nn.Module:
    """A MiniGPT on `spec.device`, ready to train: weights in, adapters in, dtypes as the recipe says, and this
    process's share of it where several GPUs train together.

    The weights are drawn from `seed` unless `fill` has them. PEFT draws adapters from PyTorch's own generator.

    It is built on the meta device and materialized parameter by parameter, so the build never
    holds a second copy of the model. Under fsdp it never holds more than one whole block beside tokens and positions.
    """
    # On Hopper cuDNN's attention comes first, whose workspace only cuDNN knows; flash attention runs everywhere.
    torch.backends.cuda.enable_cudnn_sdp(False)
    with torch.device("meta"):
        model = MiniGPT(spec.model, spec.checkpointing, spec.positions)
    precision = PRECISIONS[spec.precision]
    model.requires_grad_(spec.regime == "full")
    dtype = dtype_of(precision.base if spec.regime != "full" else precision.trained, half)
    fill = fill or partial(initialise, generator=torch.Generator().manual_seed(seed))
    trained = dtype_of(precision.trained, half)
    for name in model.parts:
        materialize(model, name, spec, dtype=dtype, half=half, fill=fill)
        if spec.sharding == "fsdp" and name.startswith("blocks."):
            block = model.get_submodule(name)
            _make_trainable(block, spec, trained)
            shard(block, spec)
    if spec.model.tied_head:
        model.head.weight = model.tokens.weight
    if spec.sharding != "fsdp":
        _make_trainable(model, spec, trained)
    return distributed(model.train(), spec)


def _make_trainable(part: nn.Module, spec: RunSpec, trained: torch.dtype) -> None:
    """Adapters on the Linears that the spec names, and what trains in the dtype that trains."""
    if spec.regime != "full":
        _adapt(part, spec)
    for parameter in trainable(part):
        parameter.data = parameter.data.to(trained)


def dtype_of(size: int, half: torch.dtype) -> torch.dtype:
    """The torch dtype of a recipe's element size in bytes."""
    return torch.float32 if size == FULL else half


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that require a gradient, in registration order."""
    return [p for p in model.parameters() if p.requires_grad]


def materialize(model: MiniGPT, name: str, spec: RunSpec, *, dtype: torch.dtype, half: torch.dtype, fill: Fill) -> None:
    """Replace every meta tensor of one part of a model by a real one on `spec.device`, quantizing block Linears as soon
    as they are filled.

    Rotary tables take the dtype of the queries they turn, which is `half` under autocast.
    """
    # Paths, for a list of the modules would keep every dense Linear alive until the last one is quantized.
    for path in [f"{name}.{inner}".rstrip(".") for inner, _ in model.get_submodule(name).named_modules()]:
        _materialize_module(model, path, spec, dtype=dtype, half=half, fill=fill)


def _materialize_module(
    model: MiniGPT, path: str, spec: RunSpec, *, dtype: torch.dtype, half: torch.dtype, fill: Fill
) -> None:
    """Do it for one module, of which nothing else holds on to a tensor when this returns."""
    module, device = model.get_submodule(path), torch.device(spec.device)
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter.is_meta:
            real = torch.empty(parameter.shape, dtype=dtype, device=device)
            fill(real, f"{path}.{name}")
            setattr(module, name, nn.Parameter(real, requires_grad=parameter.requires_grad))
    if isinstance(module, Rotary):
        module.to_empty(device=device).to(half if PRECISIONS[spec.precision].autocast else dtype).reset()
    if spec.regime == "qlora" and isinstance(module, nn.Linear) and path.startswith("blocks."):
        model.set_submodule(path, quantized(module, spec, dtype))


def quantized(linear: nn.Linear, spec: RunSpec, compute_dtype: torch.dtype) -> bnb.nn.Linear4bit:
    """The NF4 form of a Linear: half a byte per weight and one fp32 absmax per 64 (8 bits when doubly quantized)."""
    layer = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=compute_dtype,
        compress_statistics=spec.quantization == "nf4-double",
        quant_type="nf4",
        device="meta",
    )
    layer.weight = bnb.nn.Params4bit(
        linear.weight.data,
        requires_grad=False,
        compress_statistics=spec.quantization == "nf4-double",
        quant_type="nf4",
        module=layer,
    ).to(linear.weight.device)
    layer.bias = linear.bias
    return layer


def _adapt(part: nn.Module, spec: RunSpec) -> None:
    """Let PEFT put adapters on the Linears the spec names."""
    part.is_loaded_in_4bit = spec.regime == "qlora"  # PEFT reads this to choose its 4-bit layer
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=LORA_ALPHA_PER_RANK * spec.rank,
        lora_dropout=0.0,
        target_modules=list(spec.model.adapted(spec.targets)),
        bias="none",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tied.*")
        inject_adapter_in_model(config, part)
