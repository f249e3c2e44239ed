"""Where a number comes from: device, versions, commit, time. Every row carries it."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from footprint.spec.cards import DESCRIBED

REPOSITORY = Path(__file__).resolve().parents[3]


def git_commit() -> str:
    """Commit of the source tree, `-dirty` when tracked files differ from it, `unknown` outside a repository."""
    try:
        described = subprocess.run(
            ["git", "-C", str(REPOSITORY), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def package_version(name: str) -> str:
    """Installed version of a distribution, `none` when it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def cpu_name() -> str:
    """The processor's own name, with the number of cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def rehearsed() -> bool:
    """Whether the GPU of this process is pretended: what it leaves is then rehearsed, and nothing of it measured."""
    return DESCRIBED in os.environ


def provenance() -> dict[str, str]:
    """The provenance columns that do not depend on the device."""
    return {
        "torch_version": package_version("torch"),
        "bitsandbytes_version": package_version("bitsandbytes"),
        "peft_version": package_version("peft"),
        "transformers_version": package_version("transformers"),
        "git_commit": git_commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
