"""FSDP2 in the shadow: parameters are gathered before their block runs and let go after it, gradients are scattered.

Mirrors torch/distributed/fsdp/_fully_shard of PyTorch 2.13, hook by hook. Sizes are bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from footprint.predict.kernels.device import Kernels
from footprint.predict.shadow import Gradient, Shadow, Storage, Variable
from footprint.predict.sharing import Alone, Cut
from footprint.predict.tape import ACTIVATIONS, GRADIENTS, Size

IDLE, FORWARD, PRE_BACKWARD, POST_BACKWARD = "idle", "forward", "before backward", "after backward"
"""What a group is at (TrainingState)."""

GATHERED, SCATTERED = "gathered in one piece", "scattered gradients"
"""Tensors that FSDP2 makes in streams of its own, by name: the output of an all-gather and of a reduce-scatter."""


@dataclass(slots=True, eq=False)
class Group:
    """Parameters that are gathered together: those of a block, or what is outside all blocks (FSDPParamGroup)."""

    parts: tuple[str, ...]
    """The parts of the model whose gradients are its own."""
    cuts: list[Cut]
    state: str = IDLE
    module_state: str = IDLE
    """The same of the module, which differs while checkpointing runs it again (FSDPState)."""
    pending: Storage | None = None
    """What was gathered in one piece and waits for being copied out."""
    whole: list[Storage] = field(default_factory=list)
    """The parameters in full, while they are."""
    places: list[int] = field(default_factory=list)
    """Where it stands in the order in which forward ended."""


class FullySharded(Alone):
    """The communication of one model (FSDPCommContext), and the hooks of its groups."""

    def __init__(self, shadow: Shadow, kernels: Kernels, gpus: int, groups: list[Group]) -> None:
        """`groups` are those of the blocks, in order, and that of the rest."""
        self._shadow, self._kernels, self._gpus = shadow, kernels, gpus
        *self._blocks, self._root = groups
        self._copied_out: Storage | None = None
        """What the last group of forward copied out, which is kept until the next has gathered."""
        self._to_scatter: Storage | None = None
        """The last input of a reduce-scatter, which is kept until the next."""
        self._order: list[Group] = []
        self._first: Group | None = None
        """The group with which a forward began, or with which checkpointing began to run forward again."""
        shadow.gradient_kind = ACTIVATIONS  # until they are scattered

    # --- hooks -----------------------------------------------------------------------------------------------------

    def model(self, run: Callable[[], Variable]) -> Variable:
        """What the whole model does, between the hooks of its root."""
        self._before_forward(self._root)
        return self._after_forward(self._root, run())

    def block(self, index: int, run: Callable[[Variable], Variable], x: Variable) -> Variable:
        """What a block does, between its hooks."""
        group = self._blocks[index]
        again = group.module_state == PRE_BACKWARD  # under checkpointing its hooks leave the rest to backward's
        if not again:
            self._before_forward(group)
            x = self._watched(group, x)
        y = run(x)
        return y if again else self._after_forward(group, y)

    def _before_forward(self, group: Group) -> None:
        group.module_state = FORWARD
        self._first = self._first or group
        group.state = FORWARD
        self._gather(group)
        self._copy_out(group)

    def _watched(self, group: Group, x: Variable) -> Variable:
        """`x` with a node that runs when everything behind it has (RegisterPostBackwardFunction)."""
        node = self._shadow.node(x)
        if node is None:
            return x
        node.run = partial(self._passed_on, group)
        return Variable(x.storage, x.element, node)

    def _passed_on(self, group: Group, gradient: Gradient) -> list[Gradient]:
        self._after_backward(group)
        return [gradient]

    def _after_forward(self, group: Group, y: Variable) -> Variable:
        if not self._shadow.recomputing:
            if group is not self._root:
                group.whole.clear()
            group.places.append(len(self._order))
            self._order.append(group)
        group.state = IDLE
        if y.node is not None:
            y.node.before.append(partial(self._before_backward, group))
        group.module_state = IDLE
        if self._first is group:
            self._copied_out = self._first = None
        return y

    def _before_backward(self, group: Group) -> None:
        group.module_state = PRE_BACKWARD
        if group.state == PRE_BACKWARD:
            return
        group.state = PRE_BACKWARD
        self._gather(group)
        self._copy_out(group)
        place = group.places.pop()
        if place > 0:
            self._gather(self._order[place - 1])

    def _after_backward(self, group: Group) -> None:
        """Gradients are handed to the ranks that hold their shards; the parameters go."""
        group.state = POST_BACKWARD
        gradients = [gradient for part in group.parts for gradient in self._shadow.gradients.pop(part, ())]
        group.whole.clear()
        self._to_scatter = None
        if not gradients:
            return
        cuts = [cut for cut in group.cuts if cut.trained]
        sizes = [cut.shard(self._gpus) for cut in cuts]
        self._to_scatter = self._shadow.allocate("gradients to scatter", sum(sizes) * self._gpus)
        self._kernels.joining(self._gpus, [cut.rows for cut in cuts], sizes, self._shadow.allocate)
        last = [gradient for name, gradient in gradients if name == cuts[-1].name]
        gradients.clear()  # but for the last, which a variable of foreach_reduce still holds
        self._shadow.gradients["scattered"].append((SCATTERED, self._shadow.allocate(SCATTERED, sum(sizes), GRADIENTS)))
        del last

    def finish(self) -> None:
        """The end of backward (_root_post_backward_final_callback)."""
        for group in (self._root, *self._blocks):
            if group.state != POST_BACKWARD:
                self._after_backward(group)
            group.state = group.module_state = IDLE
            group.pending = None
            group.places.clear()
        self._order.clear()
        self._to_scatter = None

    # --- gathering -------------------------------------------------------------------------------------------------

    def _gather(self, group: Group) -> None:
        """All shards in one piece, unless they are there."""
        if group.pending is None and not group.whole:
            group.pending = self._shadow.allocate(GATHERED, sum(self._whole_sizes(group)))

    def _copy_out(self, group: Group) -> None:
        """A tensor of its own for every parameter."""
        if group.pending is None:
            return
        group.whole = [self._shadow.allocate("parameter in full", size) for size in self._whole_sizes(group)]
        sizes = [cut.shard(self._gpus) for cut in group.cuts]
        self._shadow.scratch("addresses of parameters", self._kernels.splitting(self._gpus, sizes))
        if group.state == FORWARD:
            self._copied_out = group.pending
        group.pending = None

    def _whole_sizes(self, group: Group) -> list[Size]:
        return [cut.shard(self._gpus) * self._gpus for cut in group.cuts]
