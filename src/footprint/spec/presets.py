"""Models that every command knows without a config file."""

from footprint.spec.model import ModelSpec

_LLAMA = {"block": "llama", "vocab": 32000, "context": 4096}

PRESETS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(name="minigpt-85m", layers=12, width=768, heads=12, vocab=256, context=512),
        ModelSpec(name="minigpt-3m", layers=4, width=256, heads=4, vocab=256, context=256),
        ModelSpec(
            name="minillama-3m",
            layers=4,
            width=256,
            heads=8,
            kv_heads=4,
            mlp_width=640,
            vocab=256,
            context=256,
            block="llama",
        ),
        # Touvron et al. 2023 (arXiv:2302.13971, arXiv:2307.09288), tables of model sizes.
        ModelSpec(name="llama-7b", layers=32, width=4096, heads=32, mlp_width=11008, **_LLAMA),
        ModelSpec(name="llama-13b", layers=40, width=5120, heads=40, mlp_width=13824, **_LLAMA),
        ModelSpec(name="llama-70b", layers=80, width=8192, heads=64, kv_heads=8, mlp_width=28672, **_LLAMA),
        # Radford et al. 2019; Zhang et al. 2024 (arXiv:2401.02385); Jiang et al. 2023 (arXiv:2310.06825), its window
        # left out; Grattafiori et al. 2024 (arXiv:2407.21783).
        ModelSpec(name="gpt2-124m", layers=12, width=768, heads=12, vocab=50257, context=1024, tied_head=True),
        ModelSpec(
            name="tinyllama-1.1b",
            layers=22,
            width=2048,
            heads=32,
            kv_heads=4,
            mlp_width=5632,
            **_LLAMA | {"context": 2048},
        ),
        ModelSpec(name="mistral-7b", layers=32, width=4096, heads=32, kv_heads=8, mlp_width=14336, **_LLAMA),
        ModelSpec(
            name="llama3-8b",
            layers=32,
            width=4096,
            heads=32,
            kv_heads=8,
            mlp_width=14336,
            **_LLAMA | {"vocab": 128256, "context": 8192},
        ),
    )
}
"""Models every command knows without a config file."""
