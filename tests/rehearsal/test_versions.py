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
