"""The oldest and the newest PyTorch that rehearsals are tried with tell the bytes of the pinned one, or their own."""

import pytest
from clone import REPOSITORY

from rehearsal import REQUIRED, rehearsed

MiB = 2**20


@pytest.fixture(params=["oldest", "newest"])
def python(request):
    """The interpreter of such a PyTorch."""
    found = REPOSITORY / f".venv-{request.param}" / "bin" / "python"
    if not found.exists() and not REQUIRED:
        pytest.skip("needs other versions of PyTorch: make install-versions")
    return found


def test_the_allocators_rules_hold_in_every_version(python):
    status, answer, said = rehearsed("allocator", python=python)
    assert status == 0, said
    assert answer["peak_allocated_bytes"] == 512 + 3 * MiB + 11 * MiB + 18 * MiB
    assert answer["peak_reserved_bytes"] == 2 * MiB + 20 * MiB + 18 * MiB
    assert answer["remark"] is None


def test_a_training_loop_takes_the_same_in_every_version(python):
    status, answer, said = rehearsed("loop", python=python)
    assert status == 0, said
    _, pinned, _ = rehearsed("loop")
    (process,), (expected,) = answer["processes"], pinned["processes"]
    assert process["steps"] == 3
    assert process["buckets"] == expected["buckets"]
    for phase in ("build", "forward", "step"):
        assert process["phases"][phase] == expected["phases"][phase]


def test_small_integers_are_real_in_every_version(python):
    status, answer, said = rehearsed("values", python=python)
    assert status == 0, said
    assert answer["status"] == "ok"


def test_a_program_that_runs_out_of_memory_is_told_so_in_every_version(python):
    status, answer, said = rehearsed("endings", "out_of_memory", python=python)
    assert status == 1, said
    assert answer["status"] == "oom"


@pytest.mark.parametrize("way", ["ddp", "fsdp1"])
def test_a_rank_of_several_holds_the_same_in_every_version(python, way):
    several = {"card": "a100-80gb", "options": ("--gpus", "4")}
    status, answer, said = rehearsed("sharded", way, python=python, **several)
    assert status == 0, said[-2000:]
    _, pinned, _ = rehearsed("sharded", way, **several)
    for bucket in ("weights", "gradients", "optimizer", "communication"):
        assert answer["processes"][0]["buckets"][bucket] == pinned["processes"][0]["buckets"][bucket]


def test_a_rank_hears_itself_in_every_version(python):
    options = ("--gpus", "2", "--rank", "1")
    status, _, said = rehearsed("spawned", card="a100-80gb", options=options, python=python)
    assert status == 0, said[-2000:]
    assert f"heard 1 {[6, 3, [3, 3], [3, 3], 2, [1]]} {[100_000] * 2} nccl 2" in said
