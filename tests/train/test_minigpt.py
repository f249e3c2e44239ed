"""The model is the published one: its sizes, its causality, and that describing it costs nothing."""

from dataclasses import replace
from math import log

import pytest
import torch
from tiny import GPT, LLAMA, SIZES, prepared, run, trained

from footprint.measure.measurement import random_batches
from footprint.measure.trace.cpu import CpuRecorder
from footprint.predict.parameters import parameter_count
from footprint.spec.block import CHOICES, STYLES
from footprint.spec.model import ModelSpec
from footprint.spec.presets import PRESETS
from footprint.train.minigpt import MiniGPT, Rotary

PUBLISHED = {
    "minigpt-85m": 85_842_432,
    # Touvron et al. 2023: "6.7B", "13.0B" and "69B", and the configurations published with the weights.
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-70b": 68_976_648_192,
    # What loading the published weights counts.
    "gpt2-124m": 124_439_808,
    "tinyllama-1.1b": 1_100_048_384,
    "mistral-7b": 7_241_732_096,
    "llama3-8b": 8_030_261_248,
}


def on_meta(spec):
    with torch.device("meta"):
        return MiniGPT(spec)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(scope="module")
def batch():
    return random_batches(run(), 1)[0]


def untrained(model):
    return prepared(run(model=model))


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_presets_have_their_published_parameter_counts(name, parameters):
    assert count(on_meta(PRESETS[name])) == parameters
    assert parameter_count(PRESETS[name]) == parameters


@pytest.mark.parametrize("name", ["minigpt-3m", "minillama-3m"])
def test_debug_presets_have_about_three_million_parameters(name):
    assert 2.5e6 < parameter_count(PRESETS[name]) < 3.5e6


def test_building_on_the_meta_device_allocates_nothing():
    recorder = CpuRecorder()
    recorder.start()
    with recorder.phase("build"):
        model = on_meta(PRESETS["minigpt-85m"])
    events = recorder.stop()
    assert all(parameter.is_meta for parameter in model.parameters())
    # The bounds of random initial values pass through tensors of one number.
    assert max(event.delta for event in events) <= 8
    assert sum(event.delta for event in events) == 0


@pytest.mark.parametrize("model", [GPT, LLAMA, replace(GPT, tied_head=True)])
def test_an_untrained_model_is_as_unsure_as_chance(model, batch):
    with torch.no_grad():
        assert untrained(model)(*batch).item() == pytest.approx(log(model.vocab), rel=0.05)


@pytest.mark.parametrize("model", [GPT, LLAMA])
def test_no_position_sees_the_tokens_after_it(model, batch):
    tokens, targets = batch
    early = targets.clone()
    early[:, 20:] = -100  # cross-entropy leaves these positions out
    later = tokens.clone()
    later[:, 20:] = 0
    with torch.no_grad():
        decoder = untrained(model)
        assert torch.equal(decoder(tokens, early), decoder(later, early))
        assert not torch.equal(decoder(tokens, targets), decoder(later, targets))


def test_a_tied_head_is_the_embedding_itself():
    model = untrained(replace(GPT, tied_head=True))
    assert model.head.weight is model.tokens.weight
    assert count(untrained(GPT)) - count(model) == GPT.vocab * GPT.width


def test_a_partial_turn_leaves_the_rest_of_a_head_alone():
    rotary = Rotary(positions=32, width=6)
    rotary.reset()
    heads = torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    turned = rotary(heads)
    assert torch.equal(turned[..., 6:], heads[..., 6:])
    assert not torch.equal(turned[:, :, 1:, :6], heads[:, :, 1:, :6])


OTHER_BLOCKS = [
    {name: value}
    for name, values in CHOICES.items()
    for value in values
    if value not in (getattr(STYLES["gpt"], name), getattr(STYLES["llama"], name))
]


@pytest.mark.parametrize("block", ["gpt", "llama"])
@pytest.mark.parametrize("part", OTHER_BLOCKS, ids=str)
def test_every_kind_of_block_learns(block, part):
    """Three steps on the same tokens make their loss smaller, and move every parameter."""
    spec = run(model=ModelSpec(name="other", block=block, **SIZES, **part))
    (batch,) = random_batches(spec, 1)
    model, _, steps = trained(spec, [batch] * 3)
    assert steps[-1].loss < steps[0].loss
    before = dict(prepared(spec).named_parameters())
    assert [name for name, after in model.named_parameters() if torch.equal(after, before[name])] == []


def test_rotated_queries_and_keys_meet_by_distance_only():
    rotary = Rotary(positions=32, width=16)
    rotary.reset()
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    queries, keys = (rotary(x.expand(1, 1, 32, 16))[0, 0] for x in (query, key))
    scores = queries @ keys.T
    for distance in (0, 1, 7):
        assert scores.diagonal(distance).std() < 1e-5
    assert scores[0].std() > 0.1


def test_grouped_queries_share_their_keys():
    grouped = on_meta(LLAMA).blocks[0].attention
    assert grouped.k_proj.weight.shape == grouped.v_proj.weight.shape == (LLAMA.width // 2, LLAMA.width)
    assert grouped.q_proj.weight.shape == (LLAMA.width, LLAMA.width)


def test_a_gpt_block_has_biases_and_a_llama_block_has_none():
    def biases(spec):
        return [name for name, _ in on_meta(spec).blocks[0].named_parameters() if name.endswith("bias")]

    assert len(biases(GPT)) == 8  # six Linears, two LayerNorms
    assert biases(LLAMA) == []
