"""One run per GPU at a time: a file lock per device, which the kernel frees when its holder is gone."""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from footprint.errors import FootprintError
from footprint.jobs.runtime import VISIBLE, runtime_folder
from footprint.measure.provenance import rehearsed

_RETRY_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to use one device for as long as some process keeps `descriptor` open."""

    device: str
    """As CUDA_VISIBLE_DEVICES names it: an index or a UUID."""
    descriptor: int
    """Of the lock; a child that inherits or is sent it holds the lease too."""


def devices(nodes: Path = Path("/dev")) -> tuple[str, ...]:
    """The GPUs this process may choose from: those of CUDA_VISIBLE_DEVICES, else every /dev/nvidia<number>."""
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return tuple(str(index) for index, _ in enumerate(nodes.glob("nvidia[0-9]*")))
    names = [name.strip() for name in visible.split(",")]
    # CUDA stops at the first entry that is no device; -1 is the usual way to write "none".
    end = next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))
    return tuple(names[:end])


def require_devices() -> tuple[str, ...]:
    """`devices()`; FootprintError when there is none."""
    found = devices()
    if not found:
        visible = os.environ.get(VISIBLE)
        reason = "this machine has no NVIDIA GPU" if visible is None else f"{VISIBLE} is {visible!r}"
        raise FootprintError(f"device: cuda needs a GPU, but {reason}; use --config device=cpu or a machine with one")
    return found


@contextmanager
def lease(choices: Sequence[str], folder: Path | None = None) -> Iterator[Lease]:
    """Wait until one of the devices is free and hold it for the block (and for children given its descriptor)."""
    folder = _locks() if folder is None else folder
    descriptor, device = _wait_for_one(choices, folder)
    try:
        yield Lease(device=device, descriptor=descriptor)
    finally:
        os.close(descriptor)


def _locks() -> Path:
    """Where the locks are. Pretended cards have their own.

    Inside a SLURM job the devices are that job's own and may be numbered anew from 0.
    """
    where = "pretended" if rehearsed() else os.environ.get("SLURM_JOB_ID", "machine")
    folder = runtime_folder() / f"devices-{where}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _wait_for_one(choices: Sequence[str], folder: Path) -> tuple[int, str]:
    while True:
        for device in choices:
            descriptor = _try(folder / f"{device.replace('/', '_')}.lock")
            if descriptor is not None:
                return descriptor, device
        time.sleep(_RETRY_SECONDS)


def _try(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # flock rather than lockf: the lock belongs to the open file, so that it outlives this process in a child.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
