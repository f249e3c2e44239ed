"""Loss scaling: what fp16 needs, checked on the CPU where fp16 tensors exist although the grid does not offer them."""

import pytest
import torch
from torch import nn

from footprint.train.loss_scale import INITIAL, LossScale


@pytest.fixture
def parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(4, dtype=torch.float16))


def test_a_gradient_too_small_for_fp16_survives_until_it_is_unscaled(parameter):
    scale = LossScale("cpu")
    scale.scaled((parameter.float() * 1e-8).sum()).backward()
    assert (parameter.grad > 0).all()
    bare = nn.Parameter(parameter.detach().clone())
    (bare.float() * 1e-8).sum().backward()
    assert (bare.grad == 0).all()


def test_unscaling_restores_the_gradient(parameter):
    scale = LossScale("cpu")
    scale.scaled((parameter.float() * 0.25).sum()).backward()
    assert scale.unscale([parameter])
    assert torch.equal(parameter.grad, torch.full((4,), 0.25, dtype=torch.float16))


def test_an_overflow_skips_the_step_and_halves_the_scale(parameter):
    scale = LossScale("cpu")
    scale.scaled((parameter.float() * 1e6).sum()).backward()
    assert not scale.unscale([parameter])
    assert scale.scaled(torch.tensor(1.0)).item() == INITIAL / 2
