"""PyTorch's operators as the allocator sees them: what each allocates, saves for backward and gives back.

Each function mirrors one operator of the real program and is named after it. What is saved follows PyTorch's
derivatives.yaml; temporaries follow the kernels named beside them. Sizes are bytes.
"""

from dataclasses import dataclass

from footprint.precision import FULL, HALF
from footprint.predict.kernels import Kernels
from footprint.predict.shadow import GRADIENTS, Gradient, Node, Shadow, Size, Storage, Variable
from footprint.spec import NF4_BLOCK

INT64 = 8


@dataclass(frozen=True, slots=True)
class Weight:
    """A matrix of a Linear, (d_out, d_in): bytes per element, whether it trains, has a bias, has quantized scales."""

    d_in: Size
    d_out: Size
    element: Size
    trained: bool
    bias: bool = False
    nested_scales: bool = False

    @property
    def elements(self) -> Size:
        """Elements of the matrix."""
        return self.d_in * self.d_out


class Operators:
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
        self.shadow.gradients.append(self.shadow.allocate(f"{name} gradient", size, GRADIENTS))

    # --- elementwise -----------------------------------------------------------------------------------------------

    def add(self, x: Variable, y: Variable, width: Size) -> Variable:
        """x + y for equal shapes; a narrower operand is first copied to the wider dtype. Saves nothing."""
        node = self.shadow.node(x, y)
        element = max(x.element, y.element)
        size = self.tokens * width * element
        copies = [self.shadow.allocate("operand cast", size) for v in (x, y) if v.element < element]
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
        """x * y for equal shapes and dtypes; saves both."""
        node = self.shadow.node(x, y)
        self.shadow.save(node, x.storage, y.storage)
        size = self.tokens * width * x.element
        if node is not None:
            node.run = lambda g: [self._gradient("product", size), self._gradient("product", size)]
        return Variable(self.shadow.allocate("product", size), x.element, node)

    # --- embeddings ------------------------------------------------------------------------------------------------

    def embedding(
        self, vocab: Size, width: Size, element: Size, trained: bool, *, shared: Node | None = None
    ) -> Variable:
        """Rows of the token table; saves the token ids, which the batch keeps anyway.

        `shared` accumulates the table's gradient when the head uses the same table.
        """
        node = self.shadow.node(Variable(None, element, shared), trained=trained)
        self.shadow.save(node, None)
        size = vocab * width * element
        if shared is not None:
            node.run = lambda g: [self._gradient("tokens", size)]
        elif node is not None:
            node.run = lambda g: [self._parameter_gradient("tokens", size)]
        return self._new("token embedding", width, element, node)

    def add_positions(self, x: Variable, context: Size, width: Size, element: Size, trained: bool) -> Variable:
        """x + the first rows of the position table; the table's gradient is summed over the batch, then padded."""
        positions = self.shadow.node(trained=trained)
        node = self.shadow.node(x, Variable(x.storage, element, positions))
        rows, table = self.seq * width * element, context * width * element
        if positions is not None:
            positions.run = lambda g: self._parameter_gradient("positions", table) or ()
            node.run = lambda g: [g, self._summed_rows(g, rows)]
        return self._new("embedded", width, element, node)

    def _summed_rows(self, g: Gradient, rows: Size) -> Gradient:
        # Summing over a batch of one is a view of the gradient itself, but the engine keeps it as a copy of its own.
        return self._gradient("positions", rows)

    # --- normalization ---------------------------------------------------------------------------------------------

    def in_full(self, x: Variable, width: Size, element: Size) -> tuple[Variable, Size]:
        """A normalization's input and its parameters' element size as autocast's fp32 list wants them.

        The fp32 copies of frozen parameters, a few kilobytes that are saved too, are left out.
        """
        return self.cast(x, width, FULL), FULL

    def layer_norm(self, x: Variable, width: Size, element: Size, trained: bool) -> Variable:
        """LayerNorm; saves its input and two statistics per token. Kernel: layer_norm_kernel.cpp."""
        node = self.shadow.node(x, trained=trained)
        self.shadow.save(node, x.storage)
        self.shadow.save(node, None)
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
            self._parameter_gradient("norm weight", width * element)
            self._parameter_gradient("norm bias", width * element)
            self.shadow.scratch("norm partial sums", self.kernels.norm_partial_sums(width, element))
        return gradient

    def rms_norm(self, x: Variable, width: Size, element: Size, trained: bool) -> Variable:
        """RMSNorm: weight * x / sqrt(mean(x^2) + eps), computed in fp32."""
        if self.kernels.fuses_rms_norm:
            return self._fused_rms_norm(x, width, element, trained)
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
        if trained and element == FULL:
            self._parameter_gradient("norm weight", width * FULL)
        elif trained:
            summed = self.shadow.allocate("norm weight sum", width * FULL)
            del product
            self._parameter_gradient("norm weight", width * element)
            del summed
        return gradient

    def _fused_rms_norm(self, x: Variable, width: Size, element: Size, trained: bool) -> Variable:
        """One kernel; saves its input and one fp32 statistic per token. Kernel: layer_norm_kernel.cu."""
        node = self.shadow.node(x, trained=trained)
        self.shadow.save(node, x.storage, None)
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
            self._parameter_gradient("norm weight", width * element)
            self.shadow.scratch("norm partial sums", self.kernels.norm_partial_sums(width, element))
        return gradient

    # --- rotary positions ------------------------------------------------------------------------------------------

    def rotary(self, x: Variable, width: Size) -> Variable:
        """x * cos + cat(-second half, first half) * sin; the tables are buffers and are saved anyway."""
        size, half = self.tokens * width * x.element, self.tokens * width * x.element // 2
        split = self.shadow.node(x)
        halves = Variable(x.storage, x.element, split)
        turned = self._times_table(x, size)
        negated_node = self.shadow.node(halves)
        negated = Variable(self.shadow.allocate("negated half", half), x.element, negated_node)
        joined_node = self.shadow.node(negated, halves)
        joined = Variable(self.shadow.allocate("joined halves", size), x.element, joined_node)
        del negated
        crossed = self._times_table(joined, size)
        del joined
        node = self.shadow.node(turned, crossed)
        result = Variable(self.shadow.allocate("rotated", size), x.element, node)
        if node is not None:
            node.run = lambda g: [g, g]
            joined_node.run = lambda g: [Gradient(g.storage, view=True), Gradient(g.storage, view=True)]
            negated_node.run = lambda g: [self._gradient("negated half", half)]
            split.run = lambda g: [self._gradient("halves", size)]
        return result

    def _times_table(self, x: Variable, size: Size) -> Variable:
        node = self.shadow.node(x)
        self.shadow.save(node, None)
        if node is not None:
            node.run = lambda g: [self._gradient("rotated", size)]
        return Variable(self.shadow.allocate("times table", size), x.element, node)

    # --- matrix products -------------------------------------------------------------------------------------------

    def linear(self, name: str, x: Variable, weight: Weight, shared: Node | None = None) -> Variable:
        """x @ W.t() + b in the dtype of x, which is W's dtype. Saves x if W trains, W if x needs a gradient.

        `shared` accumulates the gradient of a W that is used elsewhere too.
        """
        node = self.shadow.node(x, Variable(None, weight.element, shared), trained=weight.trained)
        self.shadow.save(node, *([x.storage] if weight.trained else []), *([None] if x.node is not None else []))
        element, tokens = x.element, self.tokens
        result = self._new(name, weight.d_out, element, node)
        self.shadow.scratch(
            "matmul scratch",
            self.kernels.matmul(tokens, weight.d_in, weight.d_out, element, b_transposed=True),
        )
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
                self._parameter_gradient(f"{name} bias", weight.d_out * element)
        if passes and not weight.bias:
            gradient = self._input_gradient(name, weight, element)
        return [gradient, for_shared]

    def _input_gradient(self, name: str, weight: Weight, element: Size) -> Gradient:
        gradient = self._gradient(f"{name} input", self.tokens * weight.d_in * element, view=True)
        self.shadow.scratch("matmul scratch", self.kernels.matmul(self.tokens, weight.d_out, weight.d_in, element))
        return gradient

    def _weight_gradient_scratch(self, weight: Weight, element: Size) -> None:
        scratch = self.kernels.matmul(weight.d_out, self.tokens, weight.d_in, element, a_transposed=True)
        self.shadow.scratch("matmul scratch", scratch)

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
        self.shadow.scratch(
            "matmul scratch", self.kernels.matmul(self.tokens, weight.d_in, weight.d_out, HALF, b_transposed=True)
        )
        if node is not None:
            passes = x.node is not None
            node.run = lambda g: self._autocast_gradients(name, weight, passes)
        return result

    def _cast_parameter(
        self, name: str, elements: Size, trained: bool, shared: Node | None = None
    ) -> tuple[Node | None, Storage]:
        node = self.shadow.node(Variable(None, FULL, shared), trained=trained)
        if shared is not None:
            node.run = lambda g: [Gradient(self.shadow.allocate(f"{name} gradient", elements * FULL, GRADIENTS))]
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
                for_bias = self._gradient(f"{name} bias half", weight.d_out * HALF)
        if passes and not weight.bias:
            gradient = self._input_gradient(name, weight, HALF)
        return [gradient, for_weight, for_bias]

    def linear_4bit(self, name: str, x: Variable, weight: Weight) -> Variable:
        """bitsandbytes' Linear4bit: dequantizes the matrix for the product and again for the input's gradient."""
        node = self.shadow.node(x)
        element = x.element
        scales = self._scales(weight)
        if weight.nested_scales:
            scales = self._scales(weight)  # adding the offset makes a second tensor, and the first is dropped
        matrix = self.shadow.allocate("dequantized matrix", weight.elements * element)
        result = self._new(name, weight.d_out, element, node)
        self.shadow.scratch(
            "matmul scratch", self.kernels.matmul(self.tokens, weight.d_in, weight.d_out, element, b_transposed=True)
        )
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

    def _scales(self, weight: Weight) -> Storage | None:
        """The fp32 scales that double quantization has to restore first."""
        if not weight.nested_scales:
            return None
        return self.shadow.allocate("dequantized scales", -(-weight.elements // NF4_BLOCK) * FULL)

    # --- attention and loss ----------------------------------------------------------------------------------------

    def attention(
        self, q: Variable, k: Variable, v: Variable, *, heads: Size, kv_heads: Size, head_width: Size
    ) -> Variable:
        """Flash attention; saves q, k, v, its output and one fp32 log-sum-exp per query and head."""
        node = self.shadow.node(q, k, v)
        self.shadow.save(node, q.storage, k.storage, v.storage)
        element, width = q.element, heads * head_width
        result = self._new("attention", width, element, node)
        log_sum_exp = self.shadow.allocate("log-sum-exp", self.tokens * heads * FULL)
        self._attention_buffers(self.kernels.attention_forward(self.batch, self.seq, heads, head_width, element))
        self.shadow.save(node, result.storage, log_sum_exp)
        if node is not None:
            widths = (width, kv_heads * head_width, kv_heads * head_width)
            shape = (self.batch, self.seq, heads, kv_heads, head_width, element)
            node.run = lambda g: self._attention_gradients(widths, shape)
        return result

    def _attention_gradients(self, widths: tuple[Size, ...], shape: tuple[Size, ...]) -> list[Gradient]:
        gradients = [self._gradient("attention", self.tokens * width * shape[-1]) for width in widths]
        self._attention_buffers(self.kernels.attention_backward(*shape))
        return gradients

    def _attention_buffers(self, sizes: list[Size]) -> None:
        buffers = [self.shadow.allocate("attention buffer", size) for size in sizes]
        del buffers

    def cross_entropy(self, logits: Variable, vocab: Size) -> Variable:
        """Mean cross-entropy of logits taken to fp32; saves the log-probabilities. Returns the scalar loss."""
        upcast = self.cast(logits, vocab, FULL)
        node = self.shadow.node(upcast)
        size = self.tokens * vocab * FULL
        log_probabilities = self.shadow.allocate("log-probabilities", size)
        self.shadow.save(node, log_probabilities)
        if node is not None:
            node.run = lambda g: [self._gradient("logits", size)]
        means = Variable(log_probabilities, FULL, node)
        loss_node = self.shadow.node(means)
        total_weight = self.shadow.allocate("loss total weight", FULL)
        self.shadow.save(loss_node, log_probabilities, total_weight)
        if loss_node is not None:
            loss_node.run = lambda g: [self._gradient("log-probabilities", size)]
        return Variable(self.shadow.allocate("loss", FULL), FULL, loss_node)
