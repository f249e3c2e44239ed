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

LORA_ALPHA_PER_RANK = 2
"""LoRA scales its update by alpha / rank; twice the rank keeps that factor at 2 for every rank."""


HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Fill = Callable[[Tensor, str], None]
"""Writes the values of the parameter with that name into a tensor of its shape."""


def prepare(spec: RunSpec, *, half: torch.dtype, seed: int, fill: Fill | None = None) -> MiniGPT:
    """A model on `spec.device`, ready to train: weights in, adapters in, dtypes as the recipe says.

    The weights are drawn from `seed` unless `fill` has them. PEFT draws adapters from PyTorch's own generator.

    It is built on the meta device and materialized parameter by parameter, so the build never
    holds a second copy of the model.
    """
    # On Hopper cuDNN's attention comes first, whose workspace only cuDNN knows; flash attention runs everywhere.
    torch.backends.cuda.enable_cudnn_sdp(False)
    with torch.device("meta"):
        model = MiniGPT(spec.model, spec.checkpointing, spec.positions)
    precision = PRECISIONS[spec.precision]
    frozen = spec.regime != "full"
    dtype = dtype_of(precision.base if frozen else precision.trained, half)
    fill = fill or partial(initialise, generator=torch.Generator().manual_seed(seed))
    materialize(model, spec, dtype=dtype, half=half, fill=fill)
    _REGIMES[spec.regime](model, spec)
    trained = dtype_of(precision.trained, half)
    for parameter in trainable(model):
        parameter.data = parameter.data.to(trained)
    return model.train()


def dtype_of(size: int, half: torch.dtype) -> torch.dtype:
    """The torch dtype of a recipe's element size in bytes."""
    return torch.float32 if size == FULL else half


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that require a gradient, in registration order."""
    return [p for p in model.parameters() if p.requires_grad]


def materialize(model: MiniGPT, spec: RunSpec, *, dtype: torch.dtype, half: torch.dtype, fill: Fill) -> None:
    """Replace every meta tensor by a real one on `spec.device`, quantizing block Linears as soon as they are filled.

    Rotary tables take the dtype of the queries they turn, which is `half` under autocast.
    """
    # Paths, for a list of the modules would keep every dense Linear alive until the last one is quantized.
    for path in [path for path, _ in model.named_modules()]:
        _materialize_module(model, path, spec, dtype=dtype, half=half, fill=fill)
    if spec.model.tied_head:
        model.head.weight = model.tokens.weight


def _materialize_module(
    model: MiniGPT, path: str, spec: RunSpec, *, dtype: torch.dtype, half: torch.dtype, fill: Fill
) -> None:
    """Do it for one module, of which nothing else holds on to a tensor when this returns."""
    module, device = model.get_submodule(path), torch.device(spec.device)
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter.is_meta:
            real = torch.empty(parameter.shape, dtype=dtype, device=device)
            fill(real, f"{path}.{name}")
            setattr(module, name, nn.Parameter(real))
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


def _full(model: MiniGPT, spec: RunSpec) -> None:
    model.requires_grad_(True)


def _adapted(model: MiniGPT, spec: RunSpec) -> None:
    """Freeze everything and let PEFT put adapters on the Linears the spec names."""
    model.requires_grad_(False)
    model.is_loaded_in_4bit = spec.regime == "qlora"  # PEFT reads this to choose its 4-bit layer
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=LORA_ALPHA_PER_RANK * spec.rank,
        lora_dropout=0.0,
        target_modules=list(spec.model.adapted(spec.targets)),
        bias="none",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tied.*")
        inject_adapter_in_model(config, model)


_REGIMES: dict[str, Callable[[MiniGPT, RunSpec], None]] = {"full": _full, "lora": _adapted, "qlora": _adapted}
