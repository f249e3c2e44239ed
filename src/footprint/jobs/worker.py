"""Fresh processes without the cost of starting them: a run is forked from a server that has done the imports already.

Starting Python, PyTorch, PEFT and bitsandbytes takes longer than a short run. `run_forked` therefore asks a server of
the same user on the same machine for a child that has imported everything and touched nothing. The server is
`footprint.jobs.forkserver`: it is started when none listens, and goes when idle. This side imports none of it. Linux
only.
"""

import fcntl
import hashlib
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from footprint.errors import FootprintError
from footprint.jobs.runtime import prepare_environment, runtime_folder

LENGTH = struct.Struct("!Q")
"""Bytes of the request that follow, sent together with the descriptors."""
STATUS = struct.Struct("!i")
"""How the child ended: its exit status, or minus the signal that killed it."""

UNSUITABLE = 75
"""Exit status of a child that must not measure because its server touched the device (EX_TEMPFAIL)."""

OWN = {"CUDA_VISIBLE_DEVICES", "PWD", "OLDPWD", "SHLVL", "_"}
"""Environment variables a run may have to itself; a server must agree with its clients on all others."""


def run_forked(job: str, arguments: dict[str, object], *, device: str, lease: Sequence[int] = ()) -> None:
    """The function `job` of `footprint.jobs.tasks` in a fresh child with this process's environment, folder and stderr.

    Ends this process as the child ended unless that succeeded: with its exit status, or by the signal that
    killed it. When this process dies first, the child is killed. `lease` are descriptors the child keeps open.
    Where no server can be used, says so on stderr and measures in this process.
    """
    prepare_environment(device)
    try:
        status = _ask({"job": job, "arguments": arguments}, device, lease)
    except (FootprintError, OSError) as error:
        status = UNSUITABLE
        print(f"worker: {error}; measuring in a process that imports everything itself", file=sys.stderr, flush=True)
    if status == UNSUITABLE:
        from footprint.jobs import tasks as jobs

        getattr(jobs, job)(**arguments)
    elif status < 0:
        _die_of(-status)
    elif status:
        raise SystemExit(status)


def _ask(wanted: dict[str, object], device: str, lease: Sequence[int]) -> int:
    request = wanted | {"environment": dict(os.environ), "folder": os.getcwd()}
    descriptors = [sys.stdout.fileno(), sys.stderr.fileno(), *lease]
    with _connect(device) as connection:
        _send(connection, request, descriptors)
        return _receive_status(connection)


def _die_of(number: int) -> None:
    print(f"error: the run was killed by {signal.Signals(number).name}", file=sys.stderr, flush=True)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _send(connection: socket.socket, request: dict, descriptors: list[int]) -> None:
    payload = json.dumps(request).encode()
    socket.send_fds(connection, [LENGTH.pack(len(payload))], descriptors)
    connection.sendall(payload)


def _receive_status(connection: socket.socket) -> int:
    try:
        answer = connection.recv(STATUS.size, socket.MSG_WAITALL)
    except ConnectionResetError:
        answer = b""
    if len(answer) < STATUS.size:
        raise FootprintError("the worker server stopped before the run ended; its log is beside its socket")
    return STATUS.unpack(answer)[0]


def _connect(device: str) -> socket.socket:
    """A connection to a server of this code and environment, started if none listens."""
    if not (hasattr(os, "pidfd_open") and hasattr(select, "POLLRDHUP")):
        raise FootprintError("this system cannot watch processes by descriptor (Linux 5.3 can)")
    address = runtime_folder() / f"{_identity(device)}.socket"
    try:
        return _connected(address)
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    with (address.parent / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _connected(address)  # somebody else was faster
        except (FileNotFoundError, ConnectionRefusedError):
            _start(address, device)
            return _connected(address)


def _connected(address: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(address))
    except OSError:
        connection.close()
        raise
    return connection


def _start(address: Path, device: str) -> None:
    """Listen on the address and hand the socket to a new server, so that clients can connect while it imports."""
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, address.with_suffix(".log").open("wb") as log:
        listener.bind(str(address))
        listener.listen(1024)
        subprocess.Popen(
            [sys.executable, "-P", "-m", "footprint.jobs.forkserver", str(listener.fileno()), str(address), device],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )


def _identity(device: str) -> str:
    """What a server and its clients must share for a forked child to be the process the client would have started."""
    package = Path(__file__).parents[1]
    sources = sorted((str(path), path.stat().st_mtime_ns) for path in package.rglob("*.py"))
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    environment = sorted((name, value) for name, value in os.environ.items() if name not in OWN)
    control_group = Path("/proc/self/cgroup").read_text() if Path("/proc/self/cgroup").exists() else ""
    affinity = sorted(os.sched_getaffinity(0))
    told = [device, sys.executable, sys.path, sources, limits, environment, control_group, affinity, _umask()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
