"""Matrix products: Linear as it is, under autocast, and in four bits."""

from dataclasses import dataclass

from footprint.predict.operators.elementwise import Elementwise
from footprint.predict.parameters import NF4_BLOCK
from footprint.predict.shadow import Gradient, Node, Storage, Variable
from footprint.predict.tape import Size
from footprint.spec.precision import FULL, HALF


@dataclass(frozen=True, slots=True)
class Weight:
    """A matrix of a Linear, (d_out, d_in): bytes per element, whether it trains, has a bias, has quantized scales.

    `sums_rows` says that the gradient, which is summed for that of the bias, has its elements token by token.
    """

    d_in: Size
    d_out: Size
    element: Size
    trained: bool
    bias: bool = False
    nested_scales: bool = False
    sums_rows: bool = True

    @property
    def elements(self) -> Size:
        """Elements of the matrix."""
        return self.d_in * self.d_out


class Products(Elementwise):
    """x @ W.t() in every form a regime uses."""

    def linear(self, name: str, x: Variable, weight: Weight, shared: Node | None = None) -> Variable:
        """x @ W.t() + b in the dtype of x, which is W's dtype. Saves x if W trains, W if x needs a gradient.

        `shared` accumulates the gradient of a W that is used elsewhere too.
        """
        node = self.shadow.node(x, Variable(None, weight.element, shared), trained=weight.trained)
        self.shadow.save(node, *([x.storage] if weight.trained else []), *([None] if x.node is not None else []))
        element, tokens = x.element, self.tokens
        result = self._new(name, weight.d_out, element, node)
        self._multiplied(tokens, weight.d_in, weight.d_out, element, b_transposed=True)
        if node is not None:
            passes = x.node is not None
            node.run = lambda g: self._linear_gradients(name, weight, element, passes, shared is not None)
        return result

    def _linear_gradients(
        self, name: str, weight: Weight, element: Size, passes: bool, shared: bool
    ) -> list[Gradient | None]:
        """addmm computes the input's gradient first, mm (no bias) the weight's first."""
        gradient = self._input_gradient(name, weight, element) if passes and weight.bias else None
        for_shared = None
        if weight.trained:
            size = weight.elements * element
            if shared:
                for_shared = self._gradient(name, size, view=True)  # of W.t(), so it arrives transposed
            else:
                self._parameter_gradient(name, size)
            self._weight_gradient_scratch(weight, element)
            if weight.bias:
                self.shadow.reduce()
                self._parameter_gradient(f"{name} bias", weight.d_out * element)
                self._sum_rows(weight)
        if passes and not weight.bias:
            gradient = self._input_gradient(name, weight, element)
        return [gradient, for_shared]

    def _input_gradient(self, name: str, weight: Weight, element: Size) -> Gradient:
        gradient = self._gradient(f"{name} input", self.tokens * weight.d_in * element, view=True)
        self._multiplied(self.tokens, weight.d_out, weight.d_in, element)
        return gradient

    def _weight_gradient_scratch(self, weight: Weight, element: Size) -> None:
        self._multiplied(weight.d_out, self.tokens, weight.d_in, element, a_transposed=True)

    def autocast_linear(self, name: str, x: Variable, weight: Weight, shared: Node | None = None) -> Variable:
        """A Linear under autocast: fp32 operands are first copied to half; autocast keeps the weights' copies."""
        node_bias = node_weight = weight_cast = None
        if weight.element == FULL:
            if weight.bias:
                node_bias, _ = self._cast_parameter(f"{name} bias", weight.d_out, weight.trained)
            node_weight, weight_cast = self._cast_parameter(name, weight.elements, weight.trained, shared)
        x = self.cast(x, weight.d_in, HALF)
        weight_variable = Variable(x.storage, HALF, node_weight)
        bias_variable = Variable(x.storage, HALF, node_bias)
        node = self.shadow.node(x, weight_variable, bias_variable)
        del weight_variable, bias_variable
        if weight.trained:
            self.shadow.save(node, x.storage)
        if x.node is not None:
            self.shadow.save(node, weight_cast)
        result = self._new(name, weight.d_out, HALF, node)
        self._multiplied(self.tokens, weight.d_in, weight.d_out, HALF, b_transposed=True)
        if node is not None:
            passes = x.node is not None
            node.run = lambda g: self._autocast_gradients(name, weight, passes)
        return result

    def _cast_parameter(
        self, name: str, elements: Size, trained: bool, shared: Node | None = None
    ) -> tuple[Node | None, Storage]:
        node = self.shadow.node(Variable(None, FULL, shared), trained=trained)
        if shared is not None:
            kind = self.shadow.gradient_kind
            node.run = lambda g: [Gradient(self.shadow.allocate(f"{name} gradient", elements * FULL, kind))]
        elif node is not None:
            node.run = lambda g: [self._parameter_gradient(name, elements * FULL)]
        copy = self.shadow.allocate(f"{name} autocast copy", elements * HALF)
        if trained:
            self.shadow.hold(copy)
        return node, copy

    def _autocast_gradients(self, name: str, weight: Weight, passes: bool) -> list[Gradient | None]:
        gradient = self._input_gradient(name, weight, HALF) if passes and weight.bias else None
        for_weight = for_bias = None
        if weight.trained:
            for_weight = self._gradient(f"{name} half", weight.elements * HALF)
            self._weight_gradient_scratch(weight, HALF)
            if weight.bias:
                self.shadow.reduce()
                for_bias = self._gradient(f"{name} bias half", weight.d_out * HALF)
                self._sum_rows(weight)
        if passes and not weight.bias:
            gradient = self._input_gradient(name, weight, HALF)
        return [gradient, for_weight, for_bias]

    def _sum_rows(self, weight: Weight) -> None:
        """What the sum over tokens takes; along the elements that lie side by side no block shares it."""
        if weight.sums_rows:
            self.kernels.column_sum(self.tokens, weight.d_out, self.shadow.allocate)

    def linear_4bit(self, name: str, x: Variable, weight: Weight) -> Variable:
        """bitsandbytes' Linear4bit: dequantizes the matrix for the product and again for the input's gradient.

        Few tokens are multiplied by the packed matrix as it is.

        It computes in its own dtype: what autocast hands over in another is cast, and the result cast back.
        """
        if x.element != weight.element:
            own = self.cast(x, weight.d_in, weight.element)
            return self.cast(self.linear_4bit(name, own, weight), weight.d_out, x.element)
        node = self.shadow.node(x)
        element = x.element
        dense = 1 - self.kernels.multiplies_packed(self.tokens, weight.d_in, weight.d_out, element)
        scales = [self._scales(weight, dense)]
        if weight.nested_scales:
            scales.append(self._scales(weight, dense))  # adding the offset makes a second tensor
            if not self.kernels.keeps_nested_scales:
                del scales[0]
        matrix = self.shadow.allocate("dequantized matrix", weight.elements * element * dense)
        result = self._new(name, weight.d_out, element, node)
        self._multiplied(self.tokens, weight.d_in, weight.d_out, element, b_transposed=True, share=dense)
        del matrix, scales
        if node is not None:
            node.run = lambda g: [self._linear_4bit_gradient(name, weight, element)]
        return result

    def _linear_4bit_gradient(self, name: str, weight: Weight, element: Size) -> Gradient:
        scales = self._scales(weight)
        matrix = self.shadow.allocate("dequantized matrix", weight.elements * element)
        del scales
        gradient = self._input_gradient(name, weight, element)
        del matrix
        return Gradient(gradient.storage)  # bitsandbytes returns a fresh tensor of the input's shape, not a view

    def _scales(self, weight: Weight, dense: Size = 1) -> Storage | None:
        """The fp32 scales that double quantization has to restore before a matrix is made `dense`."""
        if not weight.nested_scales:
            return None
        return self.shadow.allocate("dequantized scales", -(-weight.elements // NF4_BLOCK) * FULL * dense)
