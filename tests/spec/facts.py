"""Models as published on the Hub: the shape in their config.json, and how many parameters they have."""


def _config(layers: int, width: int, heads: int, mlp_width: int, vocab: int, context: int, **rest) -> dict:
    """The keys that most families share."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": mlp_width,
        "vocab_size": vocab,
        "max_position_embeddings": context,
    } | rest


TIED = {"tie_word_embeddings": True}


def _grouped(kv_heads: int, **rest) -> dict:
    return {"num_key_value_heads": kv_heads} | rest


MODELS = {
    "Llama-2-7b": ("llama", _config(32, 4096, 32, 11008, 32000, 4096), 6_738_415_616),
    "Llama-3.1-8B": ("llama", _config(32, 4096, 32, 14336, 128256, 131072, **_grouped(8)), 8_030_261_248),
    "Llama-3.2-1B": (
        "llama",
        _config(16, 2048, 32, 8192, 128256, 131072, **_grouped(8, head_dim=64), **TIED),
        1_235_814_400,
    ),
    "TinyLlama-1.1B": ("llama", _config(22, 2048, 32, 5632, 32000, 2048, **_grouped(4)), 1_100_048_384),
    "Mistral-7B-v0.3": ("mistral", _config(32, 4096, 32, 14336, 32768, 32768, **_grouped(8)), 7_248_023_552),
    "Mistral-Nemo": (
        "mistral",
        _config(40, 5120, 32, 14336, 131072, 1024000, **_grouped(8, head_dim=128)),
        12_247_782_400,
    ),
    "Ministral-8B": (
        "mistral",
        _config(36, 4096, 32, 12288, 131072, 32768, **_grouped(8, head_dim=128)),
        8_019_808_256,
    ),
    "Mistral-Small-24B": (
        "mistral",
        _config(40, 5120, 32, 32768, 131072, 32768, **_grouped(8, head_dim=128)),
        23_572_403_200,
    ),
    "Qwen2.5-0.5B": ("qwen2", _config(24, 896, 14, 4864, 151936, 32768, **_grouped(2), **TIED), 494_032_768),
    "Qwen2.5-7B": ("qwen2", _config(28, 3584, 28, 18944, 152064, 131072, **_grouped(4)), 7_615_616_512),
    "Qwen3-0.6B": (
        "qwen3",
        _config(28, 1024, 16, 3072, 151936, 40960, **_grouped(8, head_dim=128), **TIED),
        596_049_920,
    ),
    "Qwen3-8B": ("qwen3", _config(36, 4096, 32, 12288, 151936, 40960, **_grouped(8, head_dim=128)), 8_190_735_360),
    "Phi-3-mini": ("phi3", _config(32, 3072, 32, 8192, 32064, 4096, **_grouped(32)), 3_821_079_552),
    "Phi-4-mini": (
        "phi3",
        _config(32, 3072, 24, 8192, 200064, 131072, **_grouped(8), partial_rotary_factor=0.75, **TIED),
        3_836_021_760,
    ),
    "SmolLM3-3B": ("smollm3", _config(36, 2048, 16, 11008, 128256, 65536, **_grouped(4), **TIED), 3_075_098_624),
    "granite-3.1-2b": ("granite", _config(40, 2048, 32, 8192, 49155, 131072, **_grouped(8), **TIED), 2_533_531_648),
    "OLMo-2-7B": ("olmo2", _config(32, 4096, 32, 11008, 100352, 4096, **_grouped(32)), 7_298_617_344),
    "stablelm-3b": (
        "stablelm",
        _config(32, 2560, 32, 6912, 50304, 4096, **_grouped(32), partial_rotary_factor=0.25),
        2_795_443_200,
    ),
    "stablelm-2-1.6b": (
        "stablelm",
        _config(24, 2048, 32, 5632, 100352, 4096, **_grouped(32), use_qkv_bias=True, partial_rotary_factor=0.25),
        1_644_515_328,
    ),
    "gpt2": (
        "gpt2",
        {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
        124_439_808,
    ),
    "pythia-1.4b": ("gpt_neox", _config(24, 2048, 16, 8192, 50304, 2048, rotary_pct=0.25), 1_414_647_808),
    "RedPajama-INCITE-3B": (
        "gpt_neox",
        _config(32, 2560, 32, 10240, 50432, 2048, rotary_pct=1.0, use_parallel_residual=False),
        2_775_864_320,
    ),
    "opt-1.3b": (
        "opt",
        _config(24, 2048, 32, 0, 50272, 2048, ffn_dim=8192, word_embed_proj_dim=2048),
        1_315_758_080,
    ),
}
"""model_type, what the file says, parameters."""
