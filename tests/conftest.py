"""What every test process sets before it imports PyTorch, and how Hypothesis runs."""

import os

from hypothesis import settings

os.environ["KINETO_LOG_LEVEL"] = "6"  # the profiler writes two lines per recording at every level it has
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # test processes side by side would starve each other spinning

# Shared machines stall now and then, and a failure must be the same for everybody.
settings.register_profile("footprint", deadline=None, derandomize=True)
settings.load_profile("footprint")
