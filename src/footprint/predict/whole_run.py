"""A run from its first allocation on: the model built, one step made. What the CUDA allocator needs to know in order.

The shadow of a step (`program`) starts where weights and optimizer state exist. Here they are made too, as
`train.regimes` and `train.optimizers` make them, on the same tape. Sizes are requested bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from footprint.predict.arithmetic import maximum, where
from footprint.predict.building import SCALAR, Building
from footprint.predict.kernels.device import Kernels
from footprint.predict.parameters import MOMENT_BLOCK, MOMENT_TABLE, SMALLEST_8BIT, SMALLEST_PAGED, STEP_COUNTER
from footprint.predict.program import Program, Sizes, Structure
from footprint.predict.shadow import Gradient, Handle, Shadow, Storage, Variable
from footprint.predict.tape import ACTIVATIONS, MASTER, OPTIMIZER, Size, Tape
from footprint.spec.precision import FULL


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides how a run's tensors are stepped."""

    optimizer: str
    stepped: int
    """Bytes per element of what the optimizer updates."""
    scales_loss: bool
    """Whether fp16's small gradients are kept from vanishing by a scaled loss."""


class WholeRun:
    """Builds a model and makes one step. Tensors that outlive the step exist already in every later one."""

    def __init__(self, structure: Structure, recipe: Recipe, sizes: Sizes, kernels: Kernels) -> None:
        self.program = Program(structure, sizes, kernels)
        self.structure, self.recipe, self.sizes = structure, recipe, sizes
        self.shadow: Shadow = self.program.shadow
        self.shadow.handles = defaultdict(Handle)
        self.kept: list[Storage] = []
        self.trained: list[tuple[str, Size]] = []
        """Every trained parameter, in the order the optimizer steps them: the part of the model it is of, and how many
        of its elements this GPU steps."""
        self._has_state = False
        """Whether the optimizer has the state that it makes in the first step."""

    def run(self) -> Tape:
        """The tape; its passes are `build`, those of a step, `step` and `between`, where the step is cleared away.

        A second step follows where that is unlike the first.
        """
        self._enter("build")
        self._build()
        self._enter("between")
        if self.recipe.scales_loss:
            for name in ("loss scale", "overflow", "steps since the last change"):
                self._keep(name, SCALAR, ACTIVATIONS)
        for _ in range(self.program.sharing.different_steps):
            self._whole_step()
        self.shadow.tape.recording = False
        return self.shadow.tape

    def _whole_step(self) -> None:
        self.shadow.tape.begin_step()
        loss, batch = self.program.forward()
        self._backward(loss)
        self._enter("step")
        self.shadow.scratch("begin of the phase", 0)  # in which a fused optimizer may take nothing
        if self.recipe.scales_loss:
            self.shadow.scratch("reciprocal scale", SCALAR)
        self._step()
        self._has_state = True
        self._enter("between")
        del loss, batch
        self.shadow.gradients.clear()

    def _enter(self, pass_: str) -> None:
        self.shadow.pass_, self.shadow.part = pass_, ""

    def _backward(self, loss: Variable) -> None:
        self._enter("backward")
        if self.recipe.scales_loss:
            node = self.shadow.node(loss)
            node.run = lambda g: [Gradient(self.shadow.allocate("gradient of the scaled loss", SCALAR))]
            loss = Variable(self.shadow.allocate("scaled loss", SCALAR), SCALAR, node)
        self.program.backward(loss, self.shadow.allocate("loss gradient", FULL))

    def _build(self) -> None:
        """train.regimes.prepare and train.optimizers.build."""
        building = Building(self.program)
        building.model()
        self.trained = [(made.part, made.elements) for made in building.parameters if made.cut.trained]
        self.kept += [*building.kept, *(made.storage for made in building.parameters)]
        self.program.sharing = building.sharing()
        if self.recipe.stepped != self.structure.trained:
            for elements in self._each_trained():
                self._keep("master copy", elements * self.recipe.stepped, MASTER)

    def _each_trained(self) -> Iterator[Size]:
        """Elements of every trained parameter; meanwhile its part of the model is where the run is."""
        for part, elements in self.trained:
            self.shadow.part = part
            yield elements
        self.shadow.part = ""

    def _keep(self, name: str, size: Size, kind: str) -> None:
        self.kept.append(self.shadow.allocate(name, size, kind))

    # --- stepping: train.optimizers --------------------------------------------------------------------------------

    def _step(self) -> None:
        if self.recipe.stepped == self.structure.trained:
            self._update(self._each_trained)
            return
        for elements in self._each_trained():
            gradient = self.shadow.allocate("gradient in fp32", elements * FULL)
            self._update(lambda elements=elements: [elements])
            del gradient

    def _update(self, tensors: Callable[[], Iterable[Size]]) -> None:
        """One optimizer over some tensors: their state, then what it takes while it runs."""
        if not self._has_state:
            self._make_state(tensors())
        if self.recipe.optimizer == "adamw":
            roots = [self.shadow.allocate("square root", elements * self.recipe.stepped) for elements in tensors()]
            del roots

    def _make_state(self, tensors: Iterable[Size]) -> None:
        optimizer, stepped = self.recipe.optimizer, self.recipe.stepped
        quantized: dict[Size, Size] = {}
        for elements in tensors:
            if optimizer == "adamw-8bit":
                self._moments_8bit(elements, quantized)
                continue
            if optimizer == "adamw-fused":
                self._keep("step counter", STEP_COUNTER, OPTIMIZER)
            size = elements * stepped
            if optimizer == "paged-adamw":
                size = where(elements < SMALLEST_PAGED, elements * FULL, 0)
            for _ in range(2):
                self._keep("moment", size, OPTIMIZER)

    def _moments_8bit(self, elements: Size, quantized: dict[Size, Size]) -> None:
        """Tensors that are not too small are quantized; the first of an optimizer brings the tables of levels.

        `quantized` tells of each size so far whether it is large enough.
        """
        large = elements >= SMALLEST_8BIT
        if elements not in quantized:
            first = large * (1 - maximum(0, *quantized.values()))
            for _ in range(2):
                self._keep("table of levels", MOMENT_TABLE * first, OPTIMIZER)
            quantized[elements] = large * 1
        for _ in range(2):
            self._keep("8-bit moment", where(large, elements, elements * FULL), OPTIMIZER)
        for _ in range(2):
            self._keep("scales of a moment", large * -(-elements // MOMENT_BLOCK) * FULL, OPTIMIZER)
