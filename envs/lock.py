"""Resolve requirements.in for several Pythons and write requirements.lock, which installs the same on all of them.

Without hashes: pip checks the hash of every package or of none, and the builds of torch for CPU and for CUDA are other
files under one version, each with device libraries of its own, which this file leaves to the build.
"""

import json
import re
import subprocess
from argparse import ArgumentParser
from pathlib import Path

FOLDER = Path(__file__).parent
DEVICE_LIBRARIES = re.compile(r"nvidia-|cuda-|triton$")
"""What a CUDA build of torch requires, at versions it pins itself; another build requires other packages or none."""

HEADER = """\
# Everything `pip install -r envs/requirements.lock` installs, for Python {pythons}.
# Written by `make lock` from requirements.in; edit that file, not this one.
# torch has one build per device and brings its own CUDA libraries. pip takes the build its index offers: for a smaller
# one without CUDA, name PyTorch's CPU index in pip's own variable PIP_EXTRA_INDEX_URL before installing.
"""


def resolve(python: str) -> tuple[str, dict[str, str]]:
    """(version of the interpreter, version of each package) that pip would install, without installing."""
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    output = subprocess.run([*command, "-r", FOLDER / "requirements.in"], check=True, stdout=subprocess.PIPE).stdout
    report = json.loads(output)
    found = (item["metadata"] for item in report["install"])
    packages = {item["name"].lower().replace("_", "-"): item["version"].split("+")[0] for item in found}
    kept = {name: version for name, version in packages.items() if not DEVICE_LIBRARIES.match(name)}
    return report["environment"]["python_version"], kept


def lock(resolved: dict[str, dict[str, str]]) -> str:
    """Lines `name==version`, with a marker where not every Python needs the package or the same version of it."""
    lines = set()
    for packages in resolved.values():
        for name, version in packages.items():
            needing = [python for python, others in resolved.items() if others.get(name) == version]
            marker = " or ".join(f'python_version == "{python}"' for python in needing)
            lines.add(f"{name}=={version}" + (f" ; {marker}" if len(needing) < len(resolved) else ""))
    return HEADER.format(pythons=", ".join(resolved)) + "\n".join(sorted(lines)) + "\n"


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="+", help="interpreters with pip, oldest first")
    text = lock(dict(resolve(python) for python in parser.parse_args().pythons))
    (FOLDER / "requirements.lock").write_text(text, encoding="utf-8")
