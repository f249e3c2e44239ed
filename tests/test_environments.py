"""The environments agree: the pins made by hand, the lock, the conda file, the package and this interpreter."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version

import pytest
import yaml
from clone import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENVIRONMENTS = REPOSITORY / "envs"
PYTHONS = ("3.11", "3.12", "3.13")
TOOLS = {"hypothesis", "pytest", "pytest-xdist", "ruff", "snakefmt"}
"""Needed to check the project, not to run it."""


def requirements(name: str) -> list[Requirement]:
    lines = (ENVIRONMENTS / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins(found: list[Requirement]) -> dict[str, str]:
    """Version of each package; every requirement must name exactly one version, every package come once."""
    assert all(re.fullmatch(r"==[\w.]+", str(requirement.specifier)) for requirement in found)
    versions = {canonicalize_name(requirement.name): str(requirement.specifier)[2:] for requirement in found}
    assert len(versions) == len(found)
    return versions


def locked(python: str) -> dict[str, str]:
    """What the lock installs on one Python."""
    found = requirements("requirements.lock")
    return pins([r for r in found if r.marker is None or r.marker.evaluate({"python_version": python})])


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_installs_what_is_pinned_by_hand(python):
    by_hand = pins(requirements("requirements.in"))
    assert by_hand.items() <= locked(python).items()


def test_the_conda_file_agrees_with_the_lock():
    dependencies = yaml.safe_load((ENVIRONMENTS / "footprint.yaml").read_text())["dependencies"]
    [python] = (d.removeprefix("python=") for d in dependencies if isinstance(d, str) and d.startswith("python="))
    [listed] = (d["pip"] for d in dependencies if isinstance(d, dict))
    by_hand = pins(requirements("requirements.in"))
    assert python in PYTHONS
    assert pins([Requirement(line) for line in listed]) == {n: v for n, v in by_hand.items() if n not in TOOLS}


def test_the_container_is_built_from_the_lock():
    recipe = (ENVIRONMENTS / "Containerfile").read_text()
    assert re.search(r"^FROM python:(3\.\d+)-", recipe, re.M)[1] in PYTHONS
    assert "pip install --no-cache-dir -r /tmp/requirements.lock" in recipe


def test_the_package_asks_for_nothing_the_lock_lacks():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["test"]]
    installed = locked(PYTHONS[0])
    assert all(requirement.specifier.contains(installed[canonicalize_name(requirement.name)]) for requirement in asked)


@pytest.mark.parametrize("name", ["requirements.in", "requirements.lock", "footprint.yaml", "Containerfile"])
def test_no_environment_chooses_where_packages_come_from(name):
    assert not re.search(r"https?://|index-url|find-links", (ENVIRONMENTS / name).read_text())


def test_this_interpreter_has_the_versions_of_the_lock():
    differing = {}
    for name, wanted in locked(f"{sys.version_info[0]}.{sys.version_info[1]}").items():
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            found = None
        if found != wanted:
            differing[name] = (found, wanted)
    assert not differing


def test_ci_and_make_install_the_lock():
    assert "-r envs/requirements.lock" in (REPOSITORY / "Makefile").read_text()
    commands = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    assert commands.index("export FOOTPRINT_REQUIRE_SLURM=1 FOOTPRINT_REQUIRE_CHROMIUM=1") < commands.index(
        "exec make test"
    )
