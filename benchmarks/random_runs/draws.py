"""Random runs, valid by construction of the specs: small ones to measure on a CPU, larger ones for a card."""

import random
from dataclasses import replace

from footprint.spec.block import CHOICES, STYLES
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.model import TARGETS, ModelSpec
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import CUDA_OPTIMIZERS, OPTIMIZERS, QUANTIZATIONS, REGIMES, SHARDINGS, RunSpec

# What a draw may cost, so that 120 runs of three steps take minutes; a draw above any of these is drawn again.
MOST_LOGITS = 60_000_000  # batch x seq x vocab: 240 MB in fp32, four of them live at once
MOST_ACTIVATIONS = 10_000_000  # batch x seq x width x layers
MOST_PARAMETERS = 100_000_000  # trained ones take up to 20 bytes each
MOST_ODD = 2_000_000  # quantized weights with an odd d_in: bitsandbytes then compiles a routine, for several seconds

HEAD_WIDTHS = (16, 17, 24, 31, 32, 40, 48, 64, 96, 97)
VOCABULARIES = (96, 97, 256, 1000, 5003, 32000, 50000)
SIZES = (
    *("layers", "width", "heads", "head_width", "rotary_width", "kv_heads", "context", "mlp_width", "vocab"),
    *("tied_head", "block", *CHOICES),
)


def draw(generator: random.Random, blocks: tuple[str, ...]) -> RunSpec:
    """One random run within the caps, valid by construction of the specs."""
    while True:
        model = _draw_model(generator, generator.choice(blocks))
        spec = RunSpec(
            model=model,
            regime=generator.choice(REGIMES),
            rank=generator.randint(1, min(64, *(min(shape) for shape in model.linears.values()))),
            targets=_draw_targets(generator, model),
            checkpointing=generator.choice(CHECKPOINTING),
            precision=generator.choice(list(PRECISIONS)),
            optimizer=generator.choice(("adamw", "adamw-fused")),
            quantization=generator.choice(QUANTIZATIONS),
            batch=generator.randint(1, 8),
            seq=generator.randint(32, 512),
        )
        if _affordable(spec):
            return spec


CARD_HEAD_WIDTHS = (16, 17, 24, 31, 32, 40, 48, 64, 80, 96, 97, 100, 112, 128, 160, 192, 208, 256, 288)
CARD_VOCABULARIES = (96, 97, 256, 1000, 32000, 50257, 128256)
CARD_SEQUENCES = (1, 2, 17, 64, 100, 127, 128, 256, 300, 512, 777, 1000, 1024, 2048, 4096, 8192)
MOST_ON_A_CARD = 1_000_000_000
"""Parameters. No kernel runs in a rehearsal, so that large models take no longer than small ones."""


def draw_on_card(generator: random.Random, blocks: tuple[str, ...], card: str) -> RunSpec:
    """One random run for a card: models to 1B, sequences to 8,192 tokens, every optimizer; most fit into 80 GB."""
    while True:
        block = generator.choice(blocks)
        head_width = generator.choice([width for width in CARD_HEAD_WIDTHS if block == "gpt" or width % 2 == 0])
        heads = generator.choice((1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32))
        width, layers, vocab = (
            heads * head_width,
            generator.choice((1, 2, 3, 5, 8, 13, 22)),
            generator.choice(CARD_VOCABULARIES),
        )
        mlp_width = generator.choice((4 * width, generator.randint(width, 4 * width)))
        batch, seq = generator.choice((1, 1, 2, 3, 4, 8, 16, 32)), generator.choice(CARD_SEQUENCES)
        parameters = layers * width * (4 * width + 3 * mlp_width) + 2 * vocab * width
        tokens = batch * seq
        if not 64 <= width <= 4096 or parameters > MOST_ON_A_CARD or tokens * max(vocab, width * layers) > 3e9:
            continue
        model = ModelSpec(
            name="random",
            **_draw_kind(generator, block, head_width),
            layers=layers,
            width=width,
            heads=heads,
            head_width=head_width,
            kv_heads=_draw_kv_heads(generator, heads) if generator.random() < 0.5 else heads,
            mlp_width=mlp_width,
            vocab=vocab,
            context=max(seq, generator.choice((512, 8192))),
            tied_head=generator.random() < 0.25,
        )
        return RunSpec(
            model=model,
            regime=generator.choice(REGIMES),
            rank=min(generator.choice((1, 4, 8, 16, 64)), *(min(shape) for shape in model.linears.values())),
            targets=_draw_targets(generator, model),
            checkpointing=generator.choice(CHECKPOINTING),
            precision=generator.choice(list(PRECISIONS)),
            optimizer=generator.choice(OPTIMIZERS),
            quantization=generator.choice(QUANTIZATIONS),
            batch=batch,
            seq=seq,
            device="cuda",
            card=card,
        )


def shared(generator: random.Random, spec: RunSpec, most: int) -> RunSpec:
    """The run on several GPUs, `most` at most, each of which computes what the one did."""
    most = min(most, spec.model.width, spec.model.kv_width)
    gpus = generator.choice([gpus for gpus in (2, 3, 4, 5, 7, 8, 16) if gpus <= most])
    sharding = generator.choice([way for way in SHARDINGS if way != "none"])
    own = sharding == "ddp" or spec.optimizer not in CUDA_OPTIMIZERS
    optimizer = spec.optimizer if own else generator.choice(("adamw", "adamw-fused"))
    return replace(spec, gpus=gpus, sharding=sharding, batch=spec.batch * gpus, optimizer=optimizer)


def _draw_kind(generator: random.Random, block: str, head_width: int) -> dict[str, str | int]:
    """As the style has it, or every part of it drawn, and how much of a head is turned; turned heads are even."""
    parts = {} if generator.random() < 0.5 else {name: generator.choice(values) for name, values in CHOICES.items()}
    if head_width % 2:
        parts |= {"positions": "learned"}
    rotary = parts.get("positions", STYLES[block].positions) == "rotary"
    if rotary and generator.random() < 0.2:
        parts |= {"rotary_width": generator.randrange(2, head_width + 1, 2)}
    return {"block": block} | parts


def _draw_targets(generator: random.Random, model: ModelSpec) -> str | list[str]:
    """A set with a name, or now and then any other."""
    if generator.random() < 0.8:
        return generator.choice(TARGETS)
    return generator.sample(list(model.linears), generator.randint(1, len(model.linears)))


def _draw_model(generator: random.Random, block: str) -> ModelSpec:
    """A model of width 64 to 768, odd and prime sizes included; rotary embeddings need an even width per head."""
    llama = block == "llama"
    widths = [width for width in HEAD_WIDTHS if not (llama and width % 2)]
    shapes = [(n, d) for n in range(1, 13) for d in widths if 64 <= n * d <= 768]
    heads, head_width = generator.choice(shapes)
    width = heads * head_width
    if generator.random() < 0.2:
        head_width = generator.choice(widths)
    kind = _draw_kind(generator, block, head_width)
    beyond = (300,) if kind.get("positions", STYLES[block].positions) == "rotary" else ()
    return ModelSpec(
        name="random",
        **kind,
        layers=generator.randint(2, 13),
        width=width,
        heads=heads,
        head_width=head_width,
        kv_heads=_draw_kv_heads(generator, heads) if generator.random() < 0.5 else heads,
        mlp_width=generator.choice((4 * width, generator.randint(width, 4 * width))),
        vocab=generator.choice(VOCABULARIES),
        context=generator.choice((512, 777, *beyond)),
        tied_head=generator.random() < 0.2,
    )


def _draw_kv_heads(generator: random.Random, heads: int) -> int:
    return generator.choice([n for n in range(1, heads + 1) if heads % n == 0])


def _affordable(spec: RunSpec) -> bool:
    model, tokens = spec.model, spec.batch * spec.seq
    in_blocks = model.layers * sum(d_in * d_out for d_in, d_out in model.linears.values())
    odd = spec.regime == "qlora" and (model.width % 2 or model.mlp_width % 2)
    return (
        tokens * model.vocab <= MOST_LOGITS
        and tokens * model.width * model.layers <= MOST_ACTIVATIONS
        and in_blocks + 2 * model.vocab * model.width <= MOST_PARAMETERS
        and (not odd or in_blocks <= MOST_ODD)
    )
