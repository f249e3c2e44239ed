"""LayerNorm and RMSNorm."""

from collections.abc import Sequence

from footprint.predict.operators.elementwise import Elementwise
from footprint.predict.shadow import Gradient, Storage, Variable
from footprint.predict.tape import Size
from footprint.spec.precision import FULL


class Norms(Elementwise):
    """Normalization over the width of a token."""

    def layer_norm(
        self, x: Variable, width: Size, element: Size, trained: bool, copies: Sequence[Storage] = ()
    ) -> Variable:
        """LayerNorm; saves its input, two statistics per token and its parameters, or autocast's `copies` of them.

        Kernel: layer_norm_kernel.cpp.
        """
        node = self.shadow.node(x, trained=trained)
        self.shadow.save(node, x.storage, *(copies or [None]))
        size = self.tokens * width * x.element
        result = Variable(self.shadow.allocate("normalized", size), x.element, node)
        statistics_size = self.tokens * self.kernels.statistic(x.element)
        mean = self.shadow.allocate("mean", statistics_size)
        rstd = self.shadow.allocate("rstd", statistics_size)
        self.shadow.save(node, mean, rstd)
        if node is not None:
            passes = x.node is not None
            node.run = lambda g: [self._norm_gradient(size if passes else None, width, element, trained)]
        return result

    def _norm_gradient(self, size: Size | None, width: Size, element: Size, trained: bool) -> Gradient | None:
        gradient = None if size is None else self._gradient("normalized", size)
        if trained:
            self._norm_parameters(("norm weight", "norm bias"), width, element)
        return gradient

    def _norm_parameters(self, names: Sequence[str], width: Size, element: Size) -> None:
        self.kernels.norm_gradients(self.tokens, width, element, names, self.shadow.allocate, self._parameter_gradient)

    def rms_norm(
        self, x: Variable, width: Size, element: Size, trained: bool, copies: Sequence[Storage] = ()
    ) -> Variable:
        """RMSNorm: weight * x / sqrt(mean(x^2) + eps), computed in fp32."""
        if self.kernels.fuses_rms_norm:
            return self._fused_rms_norm(x, width, element, trained, copies)
        upcast = self.cast(x, width, FULL)
        reciprocal = self._reciprocal_root_mean_square(upcast, width)
        normalized = self._rescale(upcast, reciprocal, width)
        normalized = self._scale_columns(normalized, width, element, trained)
        return self.cast(normalized, width, x.element)

    def _reciprocal_root_mean_square(self, x: Variable, width: Size) -> Variable:
        """rsqrt(pow(x, 2).mean() + eps), one number per token; the square lives until the expression ends."""
        column, whole = self.tokens * FULL, self.tokens * width * FULL
        power_node = self.shadow.node(x)
        self.shadow.save(power_node, x.storage)
        square = Variable(self.shadow.allocate("square", whole), FULL, power_node)
        mean_node = self.shadow.node(square)
        mean = Variable(self.shadow.allocate("mean square", column), FULL, mean_node)
        self._number(FULL)
        root_node = self.shadow.node(mean)
        root = Variable(self.shadow.allocate("reciprocal root", column), FULL, root_node)
        self.shadow.save(root_node, root.storage)
        if power_node is not None:
            power_node.run = lambda g: [self._power_gradient(whole)]
            mean_node.run = lambda g: [self._mean_gradient(whole)]
            root_node.run = lambda g: [self._root_gradient(column)]
        return root

    def _number(self, element: Size) -> None:
        """A Python number as an operand: a double and its cast to the other operand's dtype."""
        number, cast = self.shadow.allocate("number", self.kernels.number), self._number_cast(element)
        del number, cast

    def _power_gradient(self, size: Size) -> Gradient:
        power = self.shadow.allocate("power", size)
        number, cast = self.shadow.allocate("number", self.kernels.number), self._number_cast(FULL)
        doubled = self.shadow.allocate("doubled power", size)
        del number, cast
        gradient = self._gradient("square", size)
        del power, doubled
        return gradient

    def _mean_gradient(self, size: Size) -> Gradient:
        number, cast = self.shadow.allocate("number", self.kernels.number), self._number_cast(FULL)
        gradient = self._gradient("mean square", size)
        del number, cast
        return gradient

    def _root_gradient(self, size: Size) -> Gradient:
        power = self.shadow.allocate("cube", size)
        number, cast = self.shadow.allocate("number", self.kernels.number), self._number_cast(FULL)
        halved = self.shadow.allocate("halved", size)
        del number, cast
        gradient = self._gradient("reciprocal root", size)
        del power, halved
        return gradient

    def _rescale(self, x: Variable, column: Variable, width: Size) -> Variable:
        """x * one number per token; saves both. The column's gradient is a full product, then summed."""
        node = self.shadow.node(x, column)
        self.shadow.save(node, x.storage, column.storage)
        whole, narrow = self.tokens * width * FULL, self.tokens * FULL
        if node is not None:
            node.run = lambda g: self._broadcast_gradients(whole, narrow)
        return Variable(self.shadow.allocate("normalized", whole), FULL, node)

    def _broadcast_gradients(self, whole: Size, narrow: Size) -> list[Gradient]:
        product = self.shadow.allocate("broadcast product", whole)
        gradient = self._gradient("normalized", whole)
        self.shadow.reduce()
        summed = self._gradient("broadcast", narrow)
        del product
        return [gradient, summed]

    def _scale_columns(self, x: Variable, width: Size, element: Size, trained: bool) -> Variable:
        """x * weight, the weight cast to fp32 for the product; saves x if the weight trains."""
        node = self.shadow.node(x, trained=trained)
        self.shadow.save(node, *([x.storage] if trained else []), *([None] if x.node is not None else []))
        whole = self.tokens * width * FULL
        cast = self._weight_cast(width, element)
        result = Variable(self.shadow.allocate("scaled columns", whole), FULL, node)
        del cast
        if node is not None:
            passes = x.node is not None
            node.run = lambda g: [self._column_gradients(whole, width, element, trained, passes)]
        return result

    def _weight_cast(self, width: Size, element: Size) -> Storage | None:
        return None if element == FULL else self.shadow.allocate("norm weight cast", width * FULL)

    def _column_gradients(
        self, whole: Size, width: Size, element: Size, trained: bool, passes: bool
    ) -> Gradient | None:
        product = self.shadow.allocate("weight product", whole) if trained else None
        gradient = None
        if passes:
            cast = self._weight_cast(width, element)
            gradient = self._gradient("scaled columns", whole)
            del cast
        self.shadow.reduce()
        if trained and element == FULL:
            self._parameter_gradient("norm weight", width * FULL)
        elif trained:
            summed = self.shadow.allocate("norm weight sum", width * FULL)
            del product
            self._parameter_gradient("norm weight", width * element)
            del summed
        return gradient

    def _fused_rms_norm(
        self, x: Variable, width: Size, element: Size, trained: bool, copies: Sequence[Storage]
    ) -> Variable:
        """One kernel; saves its input and one fp32 statistic per token. Kernel: layer_norm_kernel.cu."""
        node = self.shadow.node(x, trained=trained)
        self.shadow.save(node, x.storage, *(copies or [None]))
        size = self.tokens * width * x.element
        result = Variable(self.shadow.allocate("normalized", size), x.element, node)
        reciprocal = self.shadow.allocate("reciprocal root", self.tokens * FULL)
        self.shadow.save(node, reciprocal)
        if node is not None:
            passes = x.node is not None
            node.run = lambda g: [self._fused_rms_gradient(size if passes else None, width, element, trained)]
        return result

    def _fused_rms_gradient(self, size: Size | None, width: Size, element: Size, trained: bool) -> Gradient | None:
        gradient = None if size is None else self._gradient("normalized", size)
        if trained:
            self._norm_parameters(("norm weight",), width, element)
        return gradient
