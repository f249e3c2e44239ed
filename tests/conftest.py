"""What every test process sets before it imports PyTorch, and how Hypothesis runs."""

import os

from hypothesis import settings

from rehearsal import PYTHON

os.environ["KINETO_LOG_LEVEL"] = "6"  # the profiler writes two lines per recording at every level it has
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # test processes side by side would starve each other spinning

# Shared machines stall now and then, and a failure must be the same for everybody.
settings.register_profile("footprint", deadline=None, derandomize=True)
settings.load_profile("footprint")


def pytest_collection_modifyitems(config, items):
    """Tests that need a GPU have none here; where a rehearsal can be had, tests/rehearsal runs all of them over one."""
    import torch  # not before the environment is set

    if torch.cuda.is_available() or not PYTHON.exists():
        return
    elsewhere = [item for item in items if item.get_closest_marker("gpu")]
    items[:] = [item for item in items if item not in elsewhere]
    config.hook.pytest_deselected(items=elsewhere)
