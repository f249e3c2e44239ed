"""How GPUs share a model: what happens around its forward, around its blocks and at the end of backward."""

from collections.abc import Callable
from dataclasses import dataclass

from footprint.predict.parameters import shard
from footprint.predict.shadow import Variable
from footprint.predict.tape import Size


@dataclass(frozen=True, slots=True)
class Cut:
    """A parameter of the model, which may be cut along its rows."""

    name: str
    rows: Size
    columns: Size
    element: int
    """Bytes of one element."""
    trained: bool

    @property
    def whole(self) -> Size:
        """Bytes."""
        return self.rows * self.columns * self.element

    @property
    def dimensions(self) -> int:
        """A vector has one."""
        return 1 if isinstance(self.columns, int) else 2

    def held(self, shards: int) -> Size:
        """Elements of the first of so many shards."""
        return shard(self.rows, shards) * self.columns

    def shard(self, shards: int) -> Size:
        """Bytes of one of so many shards; all are padded to the size of the first."""
        return self.held(shards) * self.element


class Alone:
    """One GPU that shares nothing; those that do add to it."""

    different_steps = 1
    """Steps until one is like the next."""

    def model(self, run: Callable[[], Variable]) -> Variable:
        """Forward of the whole model."""
        return run()

    def block(self, index: int, run: Callable[[Variable], Variable], x: Variable) -> Variable:
        """Forward of a block, or what checkpointing runs of it again."""
        return run(x)

    def finish(self) -> None:
        """The end of backward."""
