"""How much memory of this machine a process may hold, and what sets that bound. Stdlib only: profiles read it too."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LIMITS = {
    "RLIMIT_AS": "the limit on its address space (ulimit -v)",
    "RLIMIT_DATA": "the limit on its data (ulimit -d)",
}


@dataclass(frozen=True, slots=True)
class Room:
    """What this process may hold, with what it holds already."""

    size: int
    """Bytes."""
    bound: str
    """What sets it: the subject of a sentence."""


@dataclass(frozen=True, slots=True)
class _ControlGroups:
    """Where one version of control groups keeps its figures."""

    limit: str
    usage: str
    cache: tuple[str, ...]
    """Lines of memory.stat: pages that are given up before anything is killed. Shared memory is not among them."""


_V1 = _ControlGroups("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))
_V2 = _ControlGroups("memory.max", "memory.current", ("active_file", "inactive_file", "slab_reclaimable"))


def room(root: Path = Path("/")) -> Room | None:
    """The narrowest of all bounds on this process; None where the system tells none.

    `root` is where proc and the mounted control groups are found.
    """
    return min(_rooms(root), key=lambda found: found.size, default=None)


def megabytes() -> int:
    """The same in megabytes (10^6), as Snakemake counts `mem_mb`; at least 1, and without any bound 10^9."""
    found = room()
    return 10**9 if found is None else max(1, found.size // 10**6)


def _rooms(root: Path) -> Iterator[Room]:
    held = _held(root)
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield Room(int(line.split()[1]) * 1024 + held, "this machine")
    for folder, version in _control_groups(root):
        free = _free(folder, version)
        if free is not None:
            yield Room(free + held, f"the control group {folder}")
    for name, bound in _LIMITS.items():
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft != resource.RLIM_INFINITY:
            yield Room(soft, bound)


def _held(root: Path) -> int:
    """Bytes this process holds already that are its own, not a file's."""
    sizes = " ".join(_lines(root / "proc/self/statm")).split()
    return (int(sizes[1]) - int(sizes[2])) * os.sysconf("SC_PAGE_SIZE") if sizes else 0


def _control_groups(root: Path) -> Iterator[tuple[Path, _ControlGroups]]:
    """The folders of this process's control group and of all above it, which bind it too."""
    mounts = dict(_mounts(root))
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, name = line.split(":", 2)
        version = _V2 if not controllers else _V1 if "memory" in controllers.split(",") else None
        if version not in mounts:
            continue
        within, top = mounts[version]
        # Seen from within a container the mount may begin below the hierarchy's own root.
        inner = Path(name).relative_to(within) if Path(name).is_relative_to(within) else Path()
        yield from ((folder, version) for folder in (top / inner, *(top / inner).parents) if folder.is_relative_to(top))


def _mounts(root: Path) -> Iterator[tuple[_ControlGroups, tuple[str, Path]]]:
    """Where the hierarchies with memory in them are mounted: (version, (their part that is, the folder))."""
    for line in _lines(root / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        _, _, _, within, folder, *_ = place.split()
        system, _, options = kind.split(maxsplit=2)
        if system == "cgroup2":
            yield _V2, (within, root / folder.lstrip("/"))
        elif system == "cgroup" and "memory" in options.split(","):
            yield _V1, (within, root / folder.lstrip("/"))


def _free(folder: Path, version: _ControlGroups) -> int | None:
    """Bytes up to the limit of one control group, None where it has none."""
    limit, usage = "".join(_lines(folder / version.limit)), "".join(_lines(folder / version.usage))
    if not (limit.isdecimal() and usage.isdecimal()):  # the root group has no limit, others may say `max`
        return None
    statistics = dict(line.split() for line in _lines(folder / "memory.stat"))
    return int(limit) - int(usage) + sum(int(statistics.get(name, 0)) for name in version.cache)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # another system, or a bound this process may not see
        return []
