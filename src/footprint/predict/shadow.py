"""A shadow of PyTorch's autograd: the same tensors with the same lifetimes, but only their sizes.

The predictor runs a shadow of the model instead of guessing a formula for its peak. A `Storage` records its
allocation when it is made and its release when the last reference to it dies, so lifetimes follow from the
same Python reference counting that decides them in the real program. Nodes save storages for backward as the
real ones do (derivatives.yaml of PyTorch names what each operator saves), and `Shadow.backward` runs them in
autograd's order. Sizes are bytes: integers, or formulas that stand for every run of a group that shares its structure.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import reduce
from operator import mul
from typing import NamedTuple
from weakref import ref

from footprint.predict.tape import ACTIVATIONS, GRADIENTS, Size, Tape


class Storage:
    """Bytes that live as long as something refers to them."""

    __slots__ = ("number", "size", "tape")

    def __init__(self, tape: Tape, name: str, size: Size, kind: str = ACTIVATIONS) -> None:
        self.tape, self.size = tape, size
        self.number = tape.allocate(name, kind, size)

    def __del__(self) -> None:
        self.tape.release(self.number)


class Gradient(NamedTuple):
    """A gradient on its way to a node. A view cannot be accumulated into, so the first sum is a new tensor."""

    storage: Storage
    view: bool = False
    beside: "Gradient | None" = None
    """That of another output of the same operator, for one that has several."""


class Node:
    """One backward function: where its gradients go, what it saved, what it allocates when it runs."""

    __slots__ = (
        "before",
        "edges",
        "frame",
        "kept",
        "kind",
        "part",
        "run",
        "saved",
        "segment",
        "sequence",
        "several",
        "slots",
    )

    def __init__(self, sequence: int, part: str, edges: Sequence["Node | None"]) -> None:
        self.sequence, self.part, self.edges = sequence, part, edges
        self.before: list[Callable[[], None]] = []
        """Hooks of its result: what happens before it runs."""
        self.saved: list[Storage | None] = []
        self.kept: Storage | None = None
        """A saved Python number."""
        self.segment: Callable[[], Frame | None] = lambda: None
        """The checkpointed segment it belongs to, while anything needs that."""
        self.frame: Frame | None = None
        """The same, kept by what it saved: the segment's argument goes with the last node that saved something."""
        self.slots: list[int] = []
        self.several = False
        """Whether gradients that arrive here belong to several outputs, and so are not summed."""
        self.kind = ACTIVATIONS
        """What a sum of gradients that arrive here is."""
        self.run: Callable[[Gradient], Sequence[Gradient | None]]


class Variable:
    """A tensor of the shadow program: its storage (None for a parameter), bytes per element, the node that made it."""

    __slots__ = ("element", "node", "storage")

    def __init__(self, storage: Storage | None, element: Size, node: Node | None) -> None:
        self.storage, self.element, self.node = storage, element, node


class Handle:
    """What a library of products keeps for a thread: one workspace, from the first product on."""

    def __init__(self) -> None:
        self.shares: list[Size] = []
        """Of each kind of product so far, whether it was this library's: 0 or 1."""
        self.workspaces: list[Storage] = []


class Frame:
    """One checkpointed segment: what it keeps instead of its saved tensors, and what recomputing gives back."""

    def __init__(self, function: Callable[[Variable], Variable], argument: Variable) -> None:
        self.function, self.argument = function, argument
        self.saved = 0
        self.recomputed: dict[int, Storage | None] | None = None


class _StopRecomputationError(Exception):
    """Everything the segment had saved is there again; the rest of it need not run."""


class Shadow:
    """The allocator, the autograd graph and its engine."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.gradients: defaultdict[str, list[tuple[str, Storage]]] = defaultdict(list)
        """Gradients of parameters, which outlive backward, by the part of the model and with the parameter's name."""
        self.gradient_kind = GRADIENTS
        self._held: list[tuple[str, Storage]] = []
        self.handles: defaultdict[str, Handle] | None = None
        """The handle of each thread, as products open it; None where all are there before the step. Autograd runs
        backward in a thread of its own."""
        self._sequence = 0
        self._packing: Frame | None = None
        self._recomputing: Frame | None = None
        self._recomputed = 0
        self._running: Node | None = None

    @property
    def pass_(self) -> str:
        """The pass the step is in."""
        return self.tape.piece[0]

    @pass_.setter
    def pass_(self, name: str) -> None:
        self.tape.piece = (name, self.part)

    @property
    def recomputing(self) -> bool:
        """Whether checkpointing runs a part of forward again."""
        return self._recomputing is not None

    @property
    def part(self) -> str:
        """The part of the model the step is in."""
        return self.tape.piece[1]

    @part.setter
    def part(self, name: str) -> None:
        self.tape.piece = (self.pass_, name)

    def allocate(self, name: str, size: Size, kind: str = ACTIVATIONS) -> Storage:
        """A new storage; keep the reference as long as the real tensor would live."""
        return Storage(self.tape, name, size, kind)

    def scratch(self, name: str, size: Size | None) -> None:
        """Memory an operator takes and gives back while it runs."""
        if size is not None:
            self.allocate(name, size)

    def open_handle(self, workspace: Size, share: Size) -> None:
        """Take the workspace of the running thread's handle with the first product; where `share` is 0, it is none."""
        if self.handles is None or not workspace:
            return
        handle = self.handles["main" if self.pass_ == "forward" else "autograd"]
        if not any(earlier is share or isinstance(earlier, int) for earlier in handle.shares):
            missing = reduce(mul, (1 - earlier for earlier in handle.shares), 1)
            handle.workspaces.append(self.allocate("cuBLAS workspace", workspace * share * missing))
            handle.shares.append(share)

    def node(self, *inputs: Variable | None, trained: bool = False) -> Node | None:
        """A node with edges to the inputs' nodes, or None when nothing behind it needs a gradient."""
        edges = [None if variable is None else variable.node for variable in inputs]
        if not trained and not any(edges):
            return None
        self._sequence += 1
        node = Node(self._sequence, self.part, edges)
        if self._packing is not None:
            node.segment = ref(self._packing)
        return node

    def parameter_node(self, name: str) -> Node:
        """The accumulator of a parameter that is used twice; it runs when everything else has, and keeps the sum."""
        part = self.part
        node = Node(0, part, [])
        node.kind = self.gradient_kind
        node.run = lambda g: self.gradients[part].append((name, g.storage)) or []
        return node

    def keep_gradient(self, name: str, size: Size) -> None:
        """A new gradient of a parameter of the part that the step is in."""
        gradient = self.allocate(f"{name} gradient", size, self.gradient_kind)
        self.gradients[self.part].append((name, gradient))

    def save(self, node: Node | None, *storages: Storage | None) -> None:
        """Keep storages for backward; None stands for a parameter, which is kept anyway.

        Within a checkpointed segment nothing is kept, only counted. While recomputing, the saved tensors are
        handed to the segment's frame, and the last one ends the recomputation (torch.utils.checkpoint's early stop).
        """
        if node is None:
            return
        for storage in storages:
            if self._packing is not None:
                node.frame = self._packing
                node.slots.append(self._packing.saved)
                self._packing.saved += 1
            elif self._recomputing is not None:
                frame = self._recomputing
                frame.recomputed[self._recomputed] = storage
                self._recomputed += 1
                if self._recomputed == frame.saved:
                    raise _StopRecomputationError
            else:
                node.saved.append(storage)

    def hold(self, storage: Storage) -> None:
        """Keep a storage until the pass ends: autocast's copy of a parameter, until autocast is left."""
        self._held.append((self.part, storage))

    def keep_number(self, node: Node | None, number: Storage) -> None:
        """Save a Python number. It stays although checkpointing drops what is saved: hooks are not offered numbers."""
        if node is not None and self._recomputing is None:
            node.kept = number
        elif node is not None:
            self.hold(number)  # the graph of the recomputation goes when it ends

    def release_held(self, pass_: str) -> None:
        """Drop what is held at the end of a pass; each release counts for the part that made the storage."""
        self.pass_ = f"after {pass_}"
        while self._held:
            self.part, held = self._held.pop()
            del held

    def checkpoint(self, function: Callable[[Variable], Variable], argument: Variable) -> Variable:
        """Run `function` without keeping what it saves; backward runs it again to get it."""
        frame = Frame(function, argument)
        self._packing = frame
        result = function(argument)
        self._packing = None
        return result

    def _unpack(self, node: Node) -> None:
        frame = node.frame
        if frame is None:
            return
        if frame.recomputed is None:
            self._recompute(frame)
        node.saved = [frame.recomputed.pop(slot) for slot in node.slots]

    def _recompute(self, frame: Frame) -> None:
        part = self.part
        self.pass_ = "recompute"
        frame.recomputed, self._recomputing, self._recomputed = {}, frame, 0
        with suppress(_StopRecomputationError):
            frame.function(frame.argument)
        self._recomputing = None
        self.release_held("recompute")  # recomputing enters an autocast of its own
        self.pass_, self.part = "backward", part

    def backward(self, root: Node, gradient: Gradient) -> None:
        """Run the graph below `root`, latest node first, as autograd's ready queue does."""
        waiting: dict[int, tuple[Node, Gradient]] = {root.sequence: (root, gradient)}
        queue = [-root.sequence]
        del gradient, root
        while queue:
            node, gradient = waiting.pop(-heapq.heappop(queue))
            self.part = node.part
            segment = node.segment()
            self.pass_ = "before recompute" if segment is not None and segment.recomputed is None else "backward"
            del segment
            for hook in node.before:
                hook()
            self._unpack(node)
            self._running = node
            gradients = list(node.run(gradient))
            self._running = None
            del gradient
            node.saved, node.kept, node.frame = [], None, None
            edges = node.edges
            del node
            for edge in edges:
                self._deliver(edge, gradients.pop(0), waiting, queue)

    def reduce(self) -> None:
        """What the running node allocates from here on is the engine's: gradients summed to their parameter's shape.

        What the node saved is live until it is done. What checkpointing recomputed for it is not: that was handed to
        the node's function, which has ended.
        """
        if self._running.frame is not None:
            self._running.saved = []

    def _deliver(
        self,
        edge: Node | None,
        arriving: Gradient | None,
        waiting: dict[int, tuple[Node, Gradient]],
        queue: list[int],
    ) -> None:
        if edge is None or arriving is None:
            return
        if edge.sequence in waiting and edge.several:
            arriving = arriving._replace(beside=waiting.pop(edge.sequence)[1])
        elif edge.sequence in waiting:
            arriving = self._accumulate(waiting.pop(edge.sequence)[1], arriving, edge.kind)
        else:
            heapq.heappush(queue, -edge.sequence)
        waiting[edge.sequence] = (edge, arriving)

    def _accumulate(self, present: Gradient, arriving: Gradient, kind: str) -> Gradient:
        if not present.view:
            return present
        return Gradient(self.allocate("gradient sum", arriving.storage.size, kind))
