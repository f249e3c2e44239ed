"""The server behind `footprint.jobs.worker`: imports what a run needs, then forks one child per connection.

One thread, no device touched, no thread pool started: a child is like a new process that has just finished its imports.
"""

import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from footprint.errors import user_errors
from footprint.jobs.runtime import die_with, prepare_environment
from footprint.jobs.worker import LENGTH, STATUS, UNSUITABLE

IDLE_SECONDS = 20
"""How long a server without children waits for the next run; the gaps within an experiment are shorter."""

PRELOAD = {
    "cpu": ("footprint.jobs.tasks",),
    # bitsandbytes asks CUDA for its devices when it is imported, which a process that is to fork must not do, and PEFT
    # imports bitsandbytes: a child imports those two itself. These modules are most of what they and a run need.
    "cuda": (
        "torch._dynamo.backends.registry",
        "torch._inductor.compile_fx",
        "transformers.modeling_utils",
        "footprint.text.corpus",
        "footprint.tables.rows",
        "footprint.measure.trace.cuda",
    ),
}

_MOST_DESCRIPTORS = 253
"""What Linux passes at once: stdout, stderr and a lease."""
_HANG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR


@dataclass(frozen=True, slots=True)
class Child:
    """A run under way and the client that waits for it."""

    process: int
    exit: int
    """pidfd, readable once the process has ended."""
    client: socket.socket

    def close(self) -> None:
        """Let go of both descriptors."""
        os.close(self.exit)
        self.client.close()


class Server:
    """Forks children and tells their clients how they ended."""

    def __init__(self, listener: socket.socket, device: str) -> None:
        self._listener, self._device = listener, device
        self._poll = select.poll()
        self._watched: dict[int, Child] = {}
        """Both descriptors of every child; the client's until it has hung up."""

    def serve(self, address: Path) -> None:
        """Fork a child per connection until none is left and none was asked for in a while."""
        self._poll.register(self._listener, select.POLLIN)
        while self._react(None if self._watched else IDLE_SECONDS * 1000):
            pass
        # From here on nobody can connect; whoever has connected in the meantime is still served.
        address.unlink(missing_ok=True)
        address.with_suffix(".log").unlink(missing_ok=True)
        while self._react(None if self._watched else 0):
            pass

    def _react(self, milliseconds: int | None) -> bool:
        """Wait for something to happen and deal with it; False when nothing did in time."""
        ready = self._poll.poll(milliseconds)
        # The listener was registered first, so it comes first: no new connection gets a number that is closed below.
        for descriptor, _ in ready:
            child = self._watched.get(descriptor)
            if descriptor == self._listener.fileno():
                self._fork(self._listener.accept()[0])
            elif child is not None and descriptor == child.exit:
                self._report(child)
            elif child is not None:
                # The client has gone, so must its child; what is left of it is dealt with when it has ended.
                os.kill(child.process, signal.SIGKILL)
                self._forget(descriptor)
        return bool(ready)

    def _fork(self, client: socket.socket) -> None:
        server = os.getpid()
        process = os.fork()
        if process == 0:
            for child in set(self._watched.values()):
                child.close()
            self._listener.close()
            _work(client, self._device, server)
        child = Child(process, os.pidfd_open(process), client)
        for descriptor, events in ((child.exit, select.POLLIN), (client.fileno(), _HANG_UP)):
            self._watched[descriptor] = child
            self._poll.register(descriptor, events)

    def _report(self, child: Child) -> None:
        _, status = os.waitpid(child.process, 0)
        self._forget(child.exit)
        if child.client.fileno() in self._watched:
            self._forget(child.client.fileno())
            with suppress(BrokenPipeError):  # it hung up this very moment
                child.client.sendall(STATUS.pack(os.waitstatus_to_exitcode(status)))
        child.close()

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._watched[descriptor]


def _work(client: socket.socket, device: str, server: int) -> NoReturn:
    """The child: become the process the client would have started, do its job, end."""
    status = 1
    try:
        die_with(server)
        request = _receive(client)
        client.close()
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        status = _run(request["job"], request["arguments"], device)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the end of this process: it is shown, then the process exits with 1
        traceback.print_exc()
    finally:
        # Not sys.exit: the server's clean-up is not the child's.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(job: str, arguments: dict, device: str) -> int:
    import torch  # imported by the server

    if device == "cuda" and torch.cuda._is_in_bad_fork():
        print("worker: the GPU was touched while PyTorch was imported", file=sys.stderr, flush=True)
        return UNSUITABLE
    from footprint.jobs import tasks as jobs

    with user_errors():
        getattr(jobs, job)(**arguments)
    return 0


def _receive(client: socket.socket) -> dict:
    """The request; the client's stdout and stderr become this process's, its lease (if any) just stays open."""
    header, descriptors, _, _ = socket.recv_fds(client, LENGTH.size, _MOST_DESCRIPTORS)
    for number, descriptor in zip((1, 2), descriptors, strict=False):
        os.dup2(descriptor, number)
    for descriptor in descriptors[:2]:
        os.close(descriptor)
    (length,) = LENGTH.unpack(header)
    return json.loads(client.recv(length, socket.MSG_WAITALL))


def main() -> None:
    """`python -m footprint.jobs.forkserver DESCRIPTOR ADDRESS DEVICE`, started by `footprint.jobs.worker`."""
    descriptor, address, device = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    prepare_environment(device)
    # Ask the driver's library for devices, not CUDA itself: a process that has started CUDA cannot fork.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    for module in PRELOAD[device]:
        import_module(module)
    Server(socket.socket(fileno=descriptor), device).serve(address)


if __name__ == "__main__":
    main()
