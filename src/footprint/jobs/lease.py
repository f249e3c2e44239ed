"""One run per GPU at a time: a file lock per device, which the kernel frees when its holder is gone.

A run may take several. Those who wait gather theirs one after the other, so that no two wait for what the other holds.
"""

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
from footprint.spec.checks import require

_RETRY_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to use some devices for as long as some process keeps the `descriptors` open."""

    devices: tuple[str, ...]
    """As CUDA_VISIBLE_DEVICES names them: by index or UUID."""
    descriptors: tuple[int, ...]
    """Of their locks; a child that inherits them or is sent them holds the lease too."""


def devices(nodes: Path = Path("/dev")) -> tuple[str, ...]:
    """The GPUs this process may choose from: those of CUDA_VISIBLE_DEVICES, else every /dev/nvidia<number>."""
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return tuple(str(index) for index, _ in enumerate(nodes.glob("nvidia[0-9]*")))
    names = [name.strip() for name in visible.split(",")]
    # CUDA stops at the first entry that is no device; -1 is the usual way to write "none".
    end = next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))
    return tuple(names[:end])


def require_devices(number: int = 1) -> tuple[str, ...]:
    """`devices()`; FootprintError when there are fewer than `number`."""
    found = devices()
    if not found:
        visible = os.environ.get(VISIBLE)
        reason = "this machine has no NVIDIA GPU" if visible is None else f"{VISIBLE} is {visible!r}"
        raise FootprintError(f"device: cuda needs a GPU, but {reason}; use --config device=cpu or a machine with one")
    require(number <= len(found), "gpus", number, f"at most {len(found)}, the GPUs there are here")
    return found


@contextmanager
def lease(choices: Sequence[str], number: int = 1, folder: Path | None = None) -> Iterator[Lease]:
    """Wait until `number` of the devices are free and hold them for the block, and for children with the descriptors.

    Whoever began to wait earlier is served earlier, however many it needs.
    """
    folder = _locks() if folder is None else folder
    held: dict[str, int] = {}
    try:
        with _turn(folder):
            while len(held) < number:
                _take_free(choices, number, folder, held)
        yield Lease(devices=tuple(held), descriptors=tuple(held.values()))
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _locks() -> Path:
    """Where the locks are. Pretended cards have their own.

    Inside a SLURM job the devices are that job's own and may be numbered anew from 0.
    """
    where = "pretended" if rehearsed() else os.environ.get("SLURM_JOB_ID", "machine")
    folder = runtime_folder() / f"devices-{where}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until nobody else gathers devices."""
    with (folder / "turn").open("w") as gathering:
        fcntl.flock(gathering, fcntl.LOCK_EX)
        yield


def _take_free(choices: Sequence[str], number: int, folder: Path, held: dict[str, int]) -> None:
    """Add what is free of the devices to those `held`, by their descriptors, up to `number`; wait a moment if short."""
    for device in choices:
        if len(held) == number:
            return
        descriptor = None if device in held else _try(folder / f"{device.replace('/', '_')}.lock")
        if descriptor is not None:
            held[device] = descriptor
    if len(held) < number:
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
