"""What a process started by `footprint.jobs.fresh` does first: prepare for its device. Only then it imports PyTorch."""

from multiprocessing.connection import Connection

from footprint.jobs.runtime import prepare_environment


def answer(connection: Connection, device: str) -> None:
    """Receive (function, spec, training) and send back what the function returns on `device`.

    It prepares itself whoever started it: the server it was forked from may be older than the program's first run.
    """
    prepare_environment(device)
    function, spec, training = connection.recv()
    connection.send(function(spec, training))
