"""How a rehearsal says that it cannot go on: one sentence in a file, which the command that started it shows."""

import os
import sys

IMPOSSIBLE = 2
"""The exit status of a process that refuses."""


def note(sentence):
    """Leave a sentence for the command; the rehearsal as a whole is refused then."""
    path = os.environ.get("FOOTPRINT_REFUSAL")
    if path:
        with open(path, "w") as file:
            file.write(f"{sentence}.\n")


def refuse(sentence):
    """End this process at once with a sentence: what would come after could not be rehearsed."""
    note(sentence)
    print(f"footprint: {sentence}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(IMPOSSIBLE)
