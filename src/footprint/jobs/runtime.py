"""What processes that measure share: their environment, and the private folder in which those of one user meet."""

import ctypes
import logging
import os
import signal
import stat
from pathlib import Path

from footprint.errors import FootprintError

TAKES_THREADS = ("OMP_DYNAMIC", "OMP_THREAD_LIMIT")
"""With these OpenMP may give kernels fewer threads than PyTorch counts on: training in half precision then diverges."""


HUGGING_FACE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DEACTIVATE_ASYNC_LOAD": "1",
}
"""Nothing is fetched, bars of progress are no results, and one thread loads tensors in order, so that a run repeats."""

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable that names the GPUs CUDA may use; with an empty value it finds none."""


def prepare_environment(device: str | None) -> None:
    """What must be so before PyTorch is imported by a process that measures on `device`, or by one it starts.

    No device: a process that only starts others, each of which prepares itself.
    """
    os.environ["KINETO_LOG_LEVEL"] = "6"  # its profiler writes two lines per recording at every lower level
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # that memory ran out stands in the row
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # nobody counts operations
    os.environ |= HUGGING_FACE
    for name in TAKES_THREADS:
        os.environ.pop(name, None)
    if device == "cpu":
        # bitsandbytes starts CUDA where it finds a GPU. A CPU run would hold memory there, and one that is forked from
        # such a process cannot train: PyTorch asks CUDA even for a step on the CPU, and CUDA does not survive a fork.
        os.environ[VISIBLE] = ""


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies: nobody would be told how it ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


_PR_SET_PDEATHSIG = 1

FOLDER = "FOOTPRINT_RUNTIME_DIR"
"""Environment variable that names another folder than the default."""


def runtime_folder() -> Path:
    """The folder, made when it is missing; FootprintError when it cannot be private and writable.

    Fixed rather than taken from TMPDIR: schedulers give each job its own, and locks only work where all meet. It is
    short because the path of a Unix socket may have at most 107 bytes.
    """
    folder = Path(os.environ.get(FOLDER) or f"/tmp/footprint-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise FootprintError(f"{folder}: {error.strerror}; set {FOLDER} to a folder of your own") from None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    if not private or not os.access(folder, os.W_OK | os.X_OK):
        raise FootprintError(f"{folder}: must be a folder that you own and only you may enter; set {FOLDER} to one")
    return folder
