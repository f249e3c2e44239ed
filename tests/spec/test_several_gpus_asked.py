"""What may be asked for of several GPUs."""

import pytest

from footprint.errors import FootprintError
from footprint.spec.grid import expand
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec

TINY = ModelSpec(name="tiny", layers=2, width=64, heads=4, vocab=256, context=128, kv_heads=2)


def run(**axes) -> RunSpec:
    return RunSpec(model=TINY, **{"regime": "lora", "seq": 64, "gpus": 2, "sharding": "fsdp"} | axes)


def test_one_gpu_shares_with_nobody_whatever_is_said():
    runs = expand(
        [{"model": "tiny", "regime": "full", "seq": 64, "gpus": [1, 2, 4], "sharding": ["ddp", "fsdp"]}],
        {"tiny": TINY},
        "cpu",
    )
    assert [(each.gpus, each.sharding) for each in runs] == [
        (1, "none"),
        (2, "ddp"),
        (2, "fsdp"),
        (4, "ddp"),
        (4, "fsdp"),
    ]


def test_each_gpu_computes_on_its_share_of_the_batch():
    alone = run(batch=12, gpus=4).alone
    assert (alone.batch, alone.gpus, alone.sharding) == (3, 1, "none")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"sharding": "none"}, "sharding: 'none' is not allowed; use ddp or fsdp with 2 gpus"),
        ({"batch": 3}, "batch: 3 is not allowed; use a multiple of the 2 gpus, which share it"),
        (
            {"gpus": 64, "batch": 64},
            "gpus: 64 is not allowed; use at most 32, the rows of the narrowest weight matrix",
        ),
        ({"gpus": 0}, "gpus: 0 is not allowed; use a whole number from 1 to 1024"),
        ({"sharding": "zero"}, "sharding: 'zero' is not allowed; use one of none, ddp, fsdp"),
        (
            {"stack": "transformers", "precision": "amp"},
            "sharding: 'fsdp' is not allowed; use ddp for Transformers on the",
        ),
        ({"optimizer": "adamw-8bit", "device": "cuda"}, "use adamw or adamw-fused with sharding fsdp"),
    ],
)
def test_what_cannot_be_is_a_sentence(asked, sentence):
    with pytest.raises(FootprintError, match=sentence.replace("(", r"\(")):
        run(**asked)


def test_bitsandbytes_steps_whole_models_on_every_gpu():
    assert run(optimizer="adamw-8bit", sharding="ddp", device="cuda").optimizer == "adamw-8bit"
