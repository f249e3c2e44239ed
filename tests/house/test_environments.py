"""The environments agree: the pins made by hand, the lock, the conda file, the package and this interpreter."""

import platform
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version

import pytest
import yaml
from clone import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENVIRONMENTS = REPOSITORY / "envs"
PYTHONS = ("3.11.2", "3.11.9", "3.12.0", "3.13.0")
MINORS = {python.rpartition(".")[0] for python in PYTHONS}
TOOLS = {"hypothesis", "pytest", "pytest-xdist", "ruff", "snakefmt"}
"""Needed to check the project, not to run it."""


def requirements(name: str) -> list[Requirement]:
    """What a file asks for, without the hashes, and what the files ask for that it refers to."""
    found = []
    for line in (ENVIRONMENTS / name).read_text().splitlines():
        if line.startswith("-r "):
            found += requirements(line.removeprefix("-r "))
        elif line and not line.startswith(("#", " ")):
            found.append(Requirement(line.removesuffix("\\")))
    return found


def pins(found: list[Requirement]) -> dict[str, str]:
    """Version of each package; every requirement must name exactly one version, every package come once."""
    assert all(re.fullmatch(r"==[\w.]+", str(requirement.specifier)) for requirement in found)
    versions = {canonicalize_name(requirement.name): str(requirement.specifier)[2:] for requirement in found}
    assert len(versions) == len(found)
    return versions


def locked(python: str) -> dict[str, str]:
    """What the lock, and the build of torch installed beside it, install on one version of Python."""
    found = requirements("requirements.lock") + requirements("torch.txt")
    versions = {"python_version": python.rpartition(".")[0], "python_full_version": python}
    return pins([r for r in found if r.marker is None or r.marker.evaluate(versions)])


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_installs_what_is_pinned_by_hand(python):
    by_hand = pins(requirements("requirements.in"))
    assert by_hand.items() <= locked(python).items()


def test_the_conda_file_agrees_with_the_lock():
    dependencies = yaml.safe_load((ENVIRONMENTS / "footprint.yaml").read_text())["dependencies"]
    [python] = (d.removeprefix("python=") for d in dependencies if isinstance(d, str) and d.startswith("python="))
    [listed] = (d["pip"] for d in dependencies if isinstance(d, dict))
    by_hand = pins(requirements("requirements.in"))
    assert python in MINORS
    assert pins([Requirement(line) for line in listed]) == {n: v for n, v in by_hand.items() if n not in TOOLS}


def test_the_container_is_built_from_the_lock():
    recipe = (ENVIRONMENTS / "Containerfile").read_text()
    assert re.search(r"^FROM python:(3\.\d+)-", recipe, re.M)[1] in MINORS
    assert "pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.lock" in recipe
    assert "pip install --no-cache-dir -r /tmp/torch.txt" in recipe


def test_the_package_asks_for_nothing_the_lock_lacks():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    asked = [requirement for requirement in map(Requirement, lines) if requirement.name != project["name"]]
    installed = locked(PYTHONS[0])
    assert all(requirement.specifier.contains(installed[canonicalize_name(requirement.name)]) for requirement in asked)


@pytest.mark.parametrize(
    "name", ["requirements.in", "requirements.lock", "torch.txt", "footprint.yaml", "Containerfile"]
)
def test_no_environment_chooses_where_packages_come_from(name):
    assert not re.search(r"https?://|index-url|find-links", (ENVIRONMENTS / name).read_text())


def test_this_interpreter_has_the_versions_of_the_lock():
    differing = {}
    for name, wanted in locked(platform.python_version()).items():
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            found = None
        if found != wanted:
            differing[name] = (found, wanted)
    assert not differing


def test_ci_and_make_install_the_lock():
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "-r envs/requirements.lock" in makefile
    assert "-r envs/torch.txt" in makefile
    commands = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    required = "export FOOTPRINT_REQUIRE_SLURM=1 FOOTPRINT_REQUIRE_CHROMIUM=1 FOOTPRINT_REQUIRE_PANDOC=1"
    assert commands.index(required) < commands.index("exec make test")
