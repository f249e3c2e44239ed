"""LayerNorm and RMSNorm."""

from collections.abc import Sequence
from dataclasses import dataclass

from footprint.predict.operators.elementwise import Elementwise
from footprint.predict.shadow import Gradient, Storage, Variable
from footprint.predict.tape import Size
from footprint.spec.precision import FULL


@dataclass(frozen=True, slots=True)
class Normed:
    """What a norm is taken of: tokens of `width` elements, or `heads` as wide in each token. Its parameters have
    `element` bytes per element.

    `scattered` says that the gradient arrives in another layout, so that the kernel copies it.
    """

    width: Size
    element: Size
    trained: bool
    heads: Size | None = None
    scattered: bool = False

    @property
    def across(self) -> Size:
        """Elements of a token."""
        return self.width if self.heads is None else self.width * self.heads

    def rows(self, tokens: Size) -> Size:
        """Vectors in so many tokens."""
        return tokens if self.heads is None else tokens * self.heads


class Norms(Elementwise):
    """LayerNorm and RMSNorm of a token, or of each of its heads."""

    def layer_norm(self, x: Variable, norm: Normed, copies: Sequence[Storage] = ()) -> Variable:
        """LayerNorm; saves its input, two statistics per row and its parameters, or autocast's `copies` of them.

        Kernel: layer_norm_kernel.cpp.
        """
        node = self.shadow.node(x, trained=norm.trained)
        self.shadow.save(node, x.storage, *(copies or [None]))
        size = self.tokens * norm.across * x.element
        result = Variable(self.shadow.allocate("normalized", size), x.element, node)
        statistics_size = norm.rows(self.tokens) * self.kernels.statistic(max(x.element, norm.element))
        mean = self.shadow.allocate("mean", statistics_size)
        rstd = self.shadow.allocate("rstd", statistics_size)
        self.shadow.save(node, mean, rstd)
        if node is not None:
            passes = x.node is not None
            names = ("norm weight", "norm bias")
            node.run = lambda g: [self._norm_gradient(size, norm, names, passes)]
        return result

    def _norm_gradient(self, size: Size, norm: Normed, names: Sequence[str], passes: bool) -> Gradient | None:
        """Of the input, of `size` bytes, if it `passes` one on, and of the parameters `names` if they train."""
        gradient = self._gradient("normalized", size) if passes else None
        laid_out = size if norm.scattered else 0
        if norm.trained:
            allocate, keep = self.shadow.allocate, self._parameter_gradient
            self.kernels.norm_gradients(
                norm.rows(self.tokens), norm.width, norm.element, names, laid_out, allocate, keep
            )
        else:
            self.shadow.scratch("gradient laid out", laid_out)
        return gradient

    def rms_norm(self, x: Variable, norm: Normed, copies: Sequence[Storage] = ()) -> Variable:
        """RMSNorm: weight * x / sqrt(mean(x^2) + eps), computed in fp32."""
        if self.kernels.fuses_rms_norm:
            return self._fused_rms_norm(x, norm, copies)
        upcast = self.cast(x, norm.across, FULL)
        reciprocal = self._reciprocal_root_mean_square(upcast, norm)
        normalized = self._rescale(upcast, reciprocal, norm)
        normalized = self._scale_columns(normalized, norm)
        return self.cast(normalized, norm.across, x.element)

    def _reciprocal_root_mean_square(self, x: Variable, norm: Normed) -> Variable:
        """rsqrt(pow(x, 2).mean() + eps), one number per row; the square lives until the expression ends."""
        column, whole = norm.rows(self.tokens) * FULL, self.tokens * norm.across * FULL
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

    def _rescale(self, x: Variable, column: Variable, norm: Normed) -> Variable:
        """x * one number per row; saves both. The column's gradient is a full product, then summed."""
        node = self.shadow.node(x, column)
        self.shadow.save(node, x.storage, column.storage)
        whole, narrow = self.tokens * norm.across * FULL, norm.rows(self.tokens) * FULL
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

    def _scale_columns(self, x: Variable, norm: Normed) -> Variable:
        """x * weight, the weight cast to fp32 for the product; saves x if the weight trains."""
        node = self.shadow.node(x, trained=norm.trained)
        self.shadow.save(node, *([x.storage] if norm.trained else []), *([None] if x.node is not None else []))
        whole = self.tokens * norm.across * FULL
        cast = self._weight_cast(norm)
        result = Variable(self.shadow.allocate("scaled columns", whole), FULL, node)
        del cast
        if node is not None:
            passes = x.node is not None
            node.run = lambda g: [self._column_gradients(whole, norm, passes)]
        return result

    def _weight_cast(self, norm: Normed) -> Storage | None:
        return None if norm.element == FULL else self.shadow.allocate("norm weight cast", norm.width * FULL)

    def _column_gradients(self, whole: Size, norm: Normed, passes: bool) -> Gradient | None:
        product = self.shadow.allocate("weight product", whole) if norm.trained else None
        gradient = None
        if passes:
            cast = self._weight_cast(norm)
            gradient = self._gradient("scaled columns", whole)
            del cast
        self.shadow.reduce()
        if norm.trained and norm.element == FULL:
            self._parameter_gradient("norm weight", norm.width * FULL)
        elif norm.trained:
            summed = self.shadow.allocate("norm weight sum", norm.width * FULL)
            del product
            self._parameter_gradient("norm weight", norm.width * norm.element)
            del summed
        return gradient

    def _fused_rms_norm(self, x: Variable, norm: Normed, copies: Sequence[Storage]) -> Variable:
        """One kernel; saves its input and one fp32 statistic per row. Kernel: layer_norm_kernel.cu."""
        node = self.shadow.node(x, trained=norm.trained)
        self.shadow.save(node, x.storage, *(copies or [None]))
        size = self.tokens * norm.across * x.element
        result = Variable(self.shadow.allocate("normalized", size), x.element, node)
        reciprocal = self.shadow.allocate("reciprocal root", norm.rows(self.tokens) * FULL)
        self.shadow.save(node, reciprocal)
        if node is not None:
            passes = x.node is not None
            node.run = lambda g: [self._norm_gradient(size, norm, ("norm weight",), passes)]
        return result
