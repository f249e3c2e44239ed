"""What the allocator's history tells: what was live when, of which kind, and which line of the program made it.

Works on plain lists: it needs neither PyTorch nor a rehearsal under way.
"""

import os
from collections import deque
from itertools import accumulate

LARGEST = 10
"""Tensors that are listed at the peak."""

KINDS = ("weights", "gradients", "optimizer", "communication")
"""What a label may say. A communication buffer that turns out to hold gradients, as DDP's may, is gradients."""

NOBODYS = ("<", "??", os.path.dirname(os.__file__), os.path.dirname(os.path.abspath(__file__)))
"""How the names of files begin that are not the program's own."""


class Block:
    """A piece of memory from its allocation to its release."""

    __slots__ = ("died", "entry", "kind")

    def __init__(self, entry):
        self.entry = entry
        self.died = None
        self.kind = "activations"


def told_apart(events, labels):
    """(block, bytes) of each event: positive for its allocation, negative for its release; (None, 0) where the block
    was made before the history began.

    `events` are the allocator's. `labels` tell what is a weight, a gradient, optimizer state or a buffer of
    collectives; everything else is an activation.
    """
    found, live = [], {}
    allocations = 0
    waiting = deque(sorted(labels, key=lambda label: label[0]))
    for number, entry in enumerate(events):
        if entry["action"] == "alloc":
            live[entry["addr"]] = block = Block(entry)
            allocations += 1
            found.append((block, entry["size"]))
        elif entry["addr"] in live:
            block = live.pop(entry["addr"])
            block.died = number
            found.append((block, -block.entry["size"]))
        else:
            found.append((None, 0))
        while waiting and waiting[0][0] <= allocations:
            for address, kind in waiting.popleft()[1].items():
                if address in live and (kind in ("gradients", "optimizer") or live[address].kind == "activations"):
                    live[address].kind = kind
    return found


def at_the_peak(changes):
    """Buckets in requested bytes and the largest tensors at the instant when most bytes were live."""
    totals = list(accumulate(size for _, size in changes))
    peak = max(range(len(totals)), key=totals.__getitem__, default=0)
    there = [block for block, size in changes[: peak + 1] if size > 0 and (block.died is None or block.died > peak)]
    buckets = dict.fromkeys((*KINDS, "activations"), 0)
    for block in there:
        buckets[block.kind] += block.entry["size"]
    largest = sorted(there, key=lambda block: -block.entry["size"])[:LARGEST]
    return {
        "buckets": buckets,
        "largest": [
            {"bytes": block.entry["size"], "bucket": block.kind, "line": _line(block.entry)} for block in largest
        ],
    }


def timeline(changes, entered):
    """Rows of a table: the phase and the requested bytes of each bucket after every event."""
    live = dict.fromkeys((*KINDS, "activations"), 0)
    yield ["phase", *live]
    waiting = deque(entered)
    for number, (block, size) in enumerate(changes):
        while waiting and waiting[0][0] <= number:
            phase = waiting.popleft()[1]
        if block is not None:
            live[block.kind] += size
        yield [phase, *live.values()]


def _line(entry):
    """The program's own line that an allocation came from, innermost first in its frames."""
    own = (frame for frame in entry.get("frames", ()) if _is_own(frame["filename"]))
    return next((f"{frame['filename']}:{frame['line']} in {frame['name']}" for frame in own), None)


def _is_own(filename):
    return not (filename.startswith(NOBODYS) or "site-packages" in filename or "dist-packages" in filename)


def own(stack):
    """The frames of a stack that are the program's own."""
    return [frame for frame in stack if _is_own(frame.filename)]


def shown(frame):
    """A frame's file, line and function."""
    return f"{frame.filename}:{frame.lineno} in {frame.name}"
