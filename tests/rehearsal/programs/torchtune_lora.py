"""torchtune's own single-device LoRA recipe, fed with a tiny Llama and random tokens: `torchtune_lora.py <folder>`.

As the module `torchtune_lora` it is also what the recipe's configuration names as tokenizer and data.
"""

import json
import random
import sys
from pathlib import Path
from runpy import run_path

PAD = 0
SIZES = {"num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "embed_dim": 256, "intermediate_dim": 512}


class Tokenizer:
    """All that the recipe asks of one."""

    pad_id = PAD


class Numbers:
    """Sixteen texts of up to 64 random tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        draw = random.Random(0)
        self.texts = [[draw.randrange(1, 1000) for _ in range(draw.randint(32, 64))] for _ in range(16)]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"tokens": self.texts[index], "labels": self.texts[index]}


def write_checkpoint(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1000,
        num_hidden_layers=SIZES["num_layers"],
        num_attention_heads=SIZES["num_heads"],
        num_key_value_heads=SIZES["num_kv_heads"],
        hidden_size=SIZES["embed_dim"],
        intermediate_size=SIZES["intermediate_dim"],
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def configuration(folder: Path) -> dict:
    model = {"_component_": "torchtune.models.llama2.lora_llama2", "vocab_size": 1000, "max_seq_len": 512} | SIZES
    model |= {
        "lora_attn_modules": ["q_proj", "v_proj"],
        "lora_rank": 8,
        "lora_alpha": 16,
        "apply_lora_to_mlp": False,
        "apply_lora_to_output": False,
    }
    return {
        "output_dir": str(folder / "out"),
        "model": model,
        "tokenizer": {"_component_": "torchtune_lora.Tokenizer"},
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": str(folder / "base"),
            "checkpoint_files": ["model.safetensors"],
            "output_dir": str(folder / "out"),
            "model_type": "LLAMA2",
        },
        "dataset": {"_component_": "torchtune_lora.Numbers"},
        "optimizer": {"_component_": "torch.optim.AdamW", "fused": True, "lr": 3e-4},
        "lr_scheduler": {
            "_component_": "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup",
            "num_warmup_steps": 100,
        },
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "metric_logger": {
            "_component_": "torchtune.training.metric_logging.DiskLogger",
            "log_dir": str(folder / "logs"),
        },
        "resume_from_checkpoint": False,
        "save_adapter_weights_only": True,
        "seed": None,
        "shuffle": True,
        "batch_size": 2,
        "epochs": 1,
        "max_steps_per_epoch": None,
        "gradient_accumulation_steps": 2,
        "clip_grad_norm": 1.0,
        "compile": False,
        "log_every_n_steps": 1,
        "log_peak_memory_stats": True,
        "device": "cuda",
        "dtype": "bf16",
        "enable_activation_checkpointing": True,
        "enable_activation_offloading": False,
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    write_checkpoint(place / "base")
    (place / "recipe.yaml").write_text(json.dumps(configuration(place)))
    import torchtune

    recipe = Path(torchtune.__file__).parents[1] / "recipes" / "lora_finetune_single_device.py"
    sys.argv = [str(recipe), "--config", str(place / "recipe.yaml")]
    run_path(str(recipe), run_name="__main__")
