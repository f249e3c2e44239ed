"""What a process started by `footprint.jobs.fresh` does first: prepare for its device. Only then it imports PyTorch."""

import pickle
from multiprocessing.connection import Connection

from footprint.jobs.runtime import prepare_environment


def answer(outbox: Connection, device: str, call: bytes) -> None:
    """Send what a pickled (function, spec, training) returns on `device`.

    It prepares itself whoever started it: the server it was forked from may be older than the program's first run.
    """
    prepare_environment(device)
    function, spec, training = pickle.loads(call)
    outbox.send(function(spec, training))
