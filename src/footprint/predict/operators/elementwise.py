"""Operators that work element by element, and what every operator needs: new tensors, gradients, numbers."""

from footprint.predict.kernels.device import Kernels
from footprint.predict.shadow import Gradient, Node, Shadow, Storage, Variable
from footprint.predict.tape import Size


class Elementwise:
    """Operators on (tokens, width) tensors of one training step; `tokens` is batch x seq."""

    def __init__(self, shadow: Shadow, kernels: Kernels, *, batch: Size, seq: Size) -> None:
        self.shadow, self.kernels = shadow, kernels
        self.batch, self.seq, self.tokens = batch, seq, batch * seq

    def _new(self, name: str, width: Size, element: Size, node: Node | None) -> Variable:
        return Variable(self.shadow.allocate(name, self.tokens * width * element), element, node)

    def _gradient(self, name: str, size: Size, *, view: bool = False) -> Gradient:
        return Gradient(self.shadow.allocate(f"{name} gradient", size), view)

    def _number_cast(self, element: Size) -> Storage:
        return self.shadow.allocate("number cast", self.kernels.number_cast(element))

    def _parameter_gradient(self, name: str, size: Size) -> None:
        self.shadow.keep_gradient(name, size)

    def _multiplied(self, m: Size, k: Size, n: Size, element: Size, *, share: Size = 1, **transposed: bool) -> None:
        """What an (m, k) @ (k, n) product takes beside its result: scratch, and the first of a thread its workspace.

        `share` is 0 where another library multiplies.
        """
        self.shadow.scratch("matmul scratch", self.kernels.matmul(m, k, n, element, **transposed))
        self.shadow.open_handle(self.kernels.workspace, share)

    # --- elementwise -----------------------------------------------------------------------------------------------

    def add(self, x: Variable, y: Variable, width: Size) -> Variable:
        """x + y for equal shapes; a device may first copy a narrower operand to the wider dtype. Saves nothing."""
        node = self.shadow.node(x, y)
        element = max(x.element, y.element)
        size = self.tokens * width * element
        narrower = sum(v.element < element for v in (x, y)) * self.kernels.casts_operands
        copies = [self.shadow.allocate("operand cast", size) for _ in range(narrower)]
        result = self._new("sum", width, element, node)
        del copies
        if node is not None:
            narrow = [v.element if v.element < element and v.node is not None else None for v in (x, y)]
            sizes = [None if e is None else self.tokens * width * e for e in narrow]
            node.run = lambda g: [g if s is None else self._gradient("operand cast", s) for s in sizes]
        return result

    def scale(self, x: Variable, width: Size) -> Variable:
        """x * number."""
        node = self.shadow.node(x)
        size, element = self.tokens * width * x.element, x.element
        number = self.shadow.allocate("scale", self.kernels.number)
        self.shadow.keep_number(node, number)
        cast = self._number_cast(element)
        result = Variable(self.shadow.allocate("scaled", size), element, node)
        del cast
        if node is not None:
            node.run = lambda g: [self._scaled_gradient(size, element)]
        return result

    def _scaled_gradient(self, size: Size, element: Size) -> Gradient:
        cast = self._number_cast(element)
        gradient = self._gradient("scaled", size)
        del cast
        return gradient

    def cast(self, x: Variable, width: Size, element: Size) -> Variable:
        """x.to(dtype): a copy when the dtype differs, x itself otherwise. Saves nothing."""
        if x.element == element:
            return x
        node = self.shadow.node(x)
        if node is not None:
            size = self.tokens * width * x.element
            node.run = lambda g: [self._gradient("cast", size)]
        return self._new("cast", width, element, node)

    def clone(self, x: Variable, width: Size) -> Variable:
        """x.clone(); its backward passes the gradient through."""
        node = self.shadow.node(x)
        if node is not None:
            node.run = lambda g: [g]
        return self._new("clone", width, x.element, node)

    def gelu(self, x: Variable, width: Size) -> Variable:
        """gelu(x); saves its input."""
        return self._saves_input("gelu", x, width)

    def relu(self, x: Variable, width: Size) -> Variable:
        """relu(x); saves its result."""
        node = self.shadow.node(x)
        result = self._new("relu", width, x.element, node)
        self.shadow.save(node, result.storage)
        if node is not None:
            size = self.tokens * width * x.element
            node.run = lambda g: [self._gradient("relu", size)]
        return result

    def silu(self, x: Variable, width: Size) -> Variable:
        """silu(x); saves its input."""
        return self._saves_input("silu", x, width)

    def _saves_input(self, name: str, x: Variable, width: Size) -> Variable:
        node = self.shadow.node(x)
        self.shadow.save(node, x.storage)
        size = self.tokens * width * x.element
        if node is not None:
            node.run = lambda g: [self._gradient(name, size)]
        return Variable(self.shadow.allocate(name, size), x.element, node)

    def multiply(self, x: Variable, y: Variable, width: Size) -> Variable:
        """x * y for equal shapes and dtypes; saves of each what the gradient of the other needs."""
        node = self.shadow.node(x, y)
        self.shadow.save(node, *(one.storage for one, other in ((x, y), (y, x)) if other.node is not None))
        size = self.tokens * width * x.element
        if node is not None:
            wanted = [one.node is not None for one in (y, x)]  # that of y is made first
            node.run = lambda g: [self._gradient("product", size) if wants else None for wants in wanted][::-1]
        return Variable(self.shadow.allocate("product", size), x.element, node)
