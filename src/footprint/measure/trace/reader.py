"""One reader for every device: a list of (phase, address, +-bytes) events in, peaks and buckets at the peak out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from footprint.spec.columns import BUCKET_OF


class TraceError(RuntimeError):
    """The trace contradicts itself or the labels, so no number may be taken from it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One call of the allocator, in the order it happened."""

    phase: str
    """Where it happened: `build`, `<step number>/<forward|backward|step>`, or `between`."""
    address: int
    delta: int
    """Bytes allocated (> 0) or freed (< 0); 0 where a phase begins, which may be all that happens in it."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What the blocks at these addresses were (keys of `BUCKET_OF`) when the last event of `phase` had happened."""

    phase: str
    kinds: Mapping[int, str]


@dataclass(slots=True)
class Block:
    """One allocation from birth to death, as indices into the events."""

    address: int
    size: int
    born: int
    died: int | None = None
    kind: str = "activations"


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest live total of some events, and whose bytes they were."""

    phase: str
    after: int
    """How many events had happened when it was reached."""
    total: int
    kinds: Mapping[str, int]
    """Bytes of every key of `BUCKET_OF`; they sum to `total`."""

    @property
    def buckets(self) -> dict[str, int]:
        """Bytes of each of the four buckets; they sum to `total`."""
        sizes = dict.fromkeys(BUCKET_OF.values(), 0)
        for kind, size in self.kinds.items():
            sizes[BUCKET_OF[kind]] += size
        return sizes


class Trace:
    """Events plus labels, read once."""

    def __init__(self, events: Sequence[Event], labels: Iterable[Labels] = ()) -> None:
        self.events = events
        self.live = list(accumulate(event.delta for event in events))
        """Live bytes after each event."""
        self.blocks = _blocks(events)
        self._indices: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            self._indices.setdefault(event.phase, []).append(index)
        for label in labels:
            self._apply(label)

    def _in(self, phase: str) -> list[int]:
        if phase not in self._indices:
            raise TraceError(f"the trace has no event in phase {phase!r}")
        return self._indices[phase]

    def _alive(self, after: int) -> Iterator[Block]:
        return (b for b in self.blocks if b.born < after and (b.died is None or b.died >= after))

    def _apply(self, labels: Labels) -> None:
        alive = {block.address: block for block in self._alive(self._in(labels.phase)[-1] + 1)}
        for address, kind in labels.kinds.items():
            if kind not in BUCKET_OF:
                raise TraceError(f"{kind!r} is not a kind of block; use one of {', '.join(BUCKET_OF)}")
            if address not in alive:
                raise TraceError(f"{kind} tensor at address {address:#x} was never allocated in this trace")
            alive[address].kind = kind

    def peak(self, phase: str) -> Peak:
        """The first highest point of one phase; what was live when it began counts too."""
        indices = self._in(phase)
        if indices[0] > 0:
            indices = [indices[0] - 1, *indices]
        best = max(indices, key=lambda i: (self.live[i], -i))
        return Peak(phase, best + 1, self.live[best], self.kinds(best + 1))

    def kinds(self, after: int) -> dict[str, int]:
        """Live bytes of each key of `BUCKET_OF` once `after` events had happened; they sum to the live total."""
        sizes = dict.fromkeys(BUCKET_OF, 0)
        for block in self._alive(after):
            sizes[block.kind] += block.size
        if sum(sizes.values()) != self.live[after - 1]:
            raise TraceError(f"buckets sum to {sum(sizes.values())} bytes but {self.live[after - 1]} are live")
        return sizes

    def timeline(self, phases: Iterable[str]) -> list[tuple[str, dict[str, int]]]:
        """(phase, bytes of each bucket) after every event of some consecutive phases."""
        indices = [index for phase in phases for index in self._in(phase)]
        kinds = self.kinds(indices[0])
        sizes = dict.fromkeys(BUCKET_OF.values(), 0)
        for kind, size in kinds.items():
            sizes[BUCKET_OF[kind]] += size
        changes: dict[int, Block] = {}
        for block in self.blocks:
            changes[block.born] = block
            if block.died is not None:
                changes[block.died] = block
        points = []
        for index in range(indices[0], indices[-1] + 1):
            event = self.events[index]
            if event.delta:
                sizes[BUCKET_OF[changes[index].kind]] += event.delta
            points.append((event.phase, dict(sizes)))
        return points

    def first_over(self, limit: int) -> Event | None:
        """The first allocation that takes the live total past `limit` bytes."""
        pairs = zip(self.events, self.live, strict=True)
        return next((event for event, total in pairs if event.delta > 0 and total > limit), None)


def _blocks(events: Sequence[Event]) -> list[Block]:
    blocks: list[Block] = []
    alive: dict[int, Block] = {}
    for index, event in enumerate(events):
        if event.delta == 0:
            continue
        if event.delta > 0:
            if event.address in alive:
                raise TraceError(f"address {event.address:#x} was allocated twice without a free")
            alive[event.address] = Block(event.address, event.delta, index)
            blocks.append(alive[event.address])
        else:
            block = alive.pop(event.address, None)
            if block is None or block.size != -event.delta:
                raise TraceError(f"address {event.address:#x} freed {-event.delta} bytes it did not hold")
            block.died = index
    return blocks
