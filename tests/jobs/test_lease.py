"""Leases on pretend devices: never two holders of one, none lost, the scheduler's choice honoured."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from footprint.errors import FootprintError
from footprint.jobs.lease import devices, lease, require_devices
from footprint.jobs.runtime import FOLDER, runtime_folder

HOLD = """
import sys, time
from pathlib import Path
from footprint.jobs.lease import lease
number = int(sys.argv[3]) if len(sys.argv) > 3 else 1
with lease(["0", "1"], number, Path(sys.argv[1])) as held:
    start = time.monotonic()
    print(*held.devices, flush=True)
    time.sleep(float(sys.argv[2]))
    print(start, time.monotonic(), flush=True)
"""


def hold(folder: Path, seconds: float, number: int = 1) -> subprocess.Popen:
    told = [folder, str(seconds), str(number)]
    return subprocess.Popen([sys.executable, "-c", HOLD, *told], stdout=subprocess.PIPE, text=True)


def wait_until_it_gathers(folder: Path) -> None:
    """Until a process has the turn to gather devices and has not got all of them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with (folder / "turn").open("w") as turn:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        time.sleep(0.05)
    raise AssertionError("nobody waits")


def test_five_jobs_on_two_devices_never_share_one(tmp_path):
    jobs = [hold(tmp_path, 0.3) for _ in range(5)]
    held = []
    for job in jobs:
        device, times = job.communicate(timeout=60)[0].splitlines()
        held.append((device, *map(float, times.split())))
    assert {device for device, _, _ in held} == {"0", "1"}
    for device in "01":
        spans = sorted(span for name, *span in held if name == device)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_jobs_of_one_and_of_two_devices_all_get_theirs_and_never_share_one(tmp_path):
    jobs = [hold(tmp_path, 0.1, number) for number in (2, 1, 2, 2, 1, 1, 2, 1)]
    spans = {"0": [], "1": []}
    for job in jobs:
        names, times = job.communicate(timeout=60)[0].splitlines()
        for name in names.split():
            spans[name].append(tuple(map(float, times.split())))
    assert sum(map(len, spans.values())) == 12
    for held in map(sorted, spans.values()):
        assert all(before[1] <= after[0] for before, after in pairwise(held))


def test_a_run_of_two_devices_is_served_before_those_who_came_later_for_one(tmp_path):
    with lease(["0", "1"], 1, tmp_path):
        both = hold(tmp_path, 0, 2)
        wait_until_it_gathers(tmp_path)
        later = [hold(tmp_path, 0) for _ in range(3)]
        time.sleep(0.5)
        assert all(job.poll() is None for job in later)  # though one device is free
    started = [float(job.communicate(timeout=60)[0].splitlines()[-1].split()[0]) for job in (both, *later)]
    assert started[0] == min(started)


def test_more_devices_than_there_are_is_an_error_in_a_sentence(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(FootprintError, match="gpus: 4 is not allowed; use at most 2, the GPUs there are here"):
        require_devices(4)


def test_a_killed_run_frees_its_device(tmp_path):
    jobs = [hold(tmp_path, 60) for _ in range(2)]
    devices_held = {job.stdout.readline().strip(): job for job in jobs}
    third = hold(tmp_path, 0)
    time.sleep(0.5)
    assert third.poll() is None
    devices_held["1"].send_signal(signal.SIGKILL)
    assert third.communicate(timeout=30)[0].splitlines()[0] == "1"
    for job in jobs:
        job.kill()
        job.communicate()


def test_a_lease_lasts_as_long_as_a_child_keeps_its_descriptor(tmp_path):
    with lease(["0"], folder=tmp_path) as held:
        child = subprocess.Popen(["sleep", "60"], pass_fds=held.descriptors)
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace('"0", "1"', '"0"'), tmp_path, "0"], stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.7)
    assert waiting.poll() is None
    child.kill()
    child.wait()
    assert waiting.communicate(timeout=30)[0].splitlines()[0] == "0"


def test_devices_are_those_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia7", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    # CUDA numbers what it finds from 0, whatever the nodes are called.
    assert devices(tmp_path) == ("0", "1")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("2,3", ("2", "3")), ("GPU-8f2, 1", ("GPU-8f2", "1")), ("0,-1,1", ("0",)), ("-1", ()), ("", ())],
)
def test_devices_are_those_a_scheduler_made_visible(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices() == expected


def test_no_device_is_one_sentence(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(FootprintError, match="device: cuda needs a GPU, but CUDA_VISIBLE_DEVICES is ''"):
        require_devices()


def test_the_runtime_folder_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "new" / "folder"))
    assert runtime_folder().stat().st_mode & 0o777 == 0o700
    os.chmod(tmp_path / "new" / "folder", 0o755)
    with pytest.raises(FootprintError, match="only you may enter"):
        runtime_folder()


def test_a_runtime_folder_that_is_a_link_is_refused(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("elsewhere")
    monkeypatch.setenv(FOLDER, str(tmp_path / "link"))
    with pytest.raises(FootprintError, match="must be a folder that you own"):
        runtime_folder()
