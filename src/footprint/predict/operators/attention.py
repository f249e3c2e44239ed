"""Rotary positions and attention."""

from footprint.predict.kernels.device import AttentionShape
from footprint.predict.operators.elementwise import Elementwise
from footprint.predict.shadow import Gradient, Node, Storage, Variable
from footprint.predict.tape import Size
from footprint.spec.precision import FULL


class Attention(Elementwise):
    """What lies between the projections of an attention block."""

    def partly_rotary(self, x: Variable, turning: Size, width: Size) -> Variable:
        """The first `turning` elements of all heads are turned, the rest is joined to them again."""
        size = self.tokens * width * x.element
        split = self.shadow.node(x)
        part = Variable(x.storage, x.element, split)
        turned = self.rotary(part, turning)
        node = self.shadow.node(turned, part)
        result = Variable(self.shadow.allocate("joined heads", size), x.element, node)
        if node is not None:
            node.run = lambda g: [Gradient(g.storage, view=True), Gradient(g.storage, view=True)]
            split.several = True
            split.run = lambda g: [self._gradient("heads", size)]
        return result

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
            split.several = True
            split.run = lambda g: [self._gradient("halves", size)]
        return result

    def _times_table(self, x: Variable, size: Size) -> Variable:
        node = self.shadow.node(x)
        self.shadow.save(node, None)
        if node is not None:
            node.run = lambda g: [self._gradient("rotated", size)]
        return Variable(self.shadow.allocate("times table", size), x.element, node)

    def attention(
        self, kind: str, q: Variable, k: Variable, v: Variable, shape: AttentionShape, *, copies: int = 0
    ) -> Variable:
        """One kernel, which saves q, k, v, its output and statistics.

        Backward wants tokens before heads: so many of the output and its gradient it has to copy.
        """
        node = self.shadow.node(q, k, v)
        self.shadow.save(node, q.storage, k.storage, v.storage)
        result = Variable(self.shadow.allocate("attention", shape.queries), shape.element, node)
        kept = self.kernels.attention_forward(kind, shape, self.shadow.allocate, trained=node is not None)
        self.shadow.save(node, result.storage, *kept)
        if node is not None:
            node.run = lambda g: self._attention_gradients(kind, shape, copies)
        return result

    def _attention_gradients(self, kind: str, shape: AttentionShape, copies: int) -> list[Gradient]:
        copied = shape.queries * (shape.heads > 1) * (shape.seq > 1)
        laid_out = [self.shadow.allocate("laid out for attention", copied) for _ in range(copies)]
        gradients = [self._gradient("attention", size) for size in shape.operands]
        self.kernels.attention_backward(kind, shape, self.shadow.allocate)
        del laid_out
        return gradients

    def padded_attention(self, q: Variable, k: Variable, v: Variable, shape: AttentionShape) -> Variable:
        """The same with heads that are padded to a multiple of 8 elements and cut again."""
        wide = shape._replace(head_width=-(-shape.head_width // 8) * 8)
        padded = [
            self._passed("padded heads", x, new, old)
            for x, new, old in (
                (q, wide.queries, shape.queries),
                (k, wide.keys, shape.keys),
                (v, wide.keys, shape.keys),
            )
        ]
        result = self.attention("padded", *padded, wide, copies=2)  # padding left heads before tokens
        node = self.shadow.node(result)
        if node is not None:
            node.run = lambda g: [self._gradient("padded heads", wide.queries)]
        return Variable(result.storage, result.element, node)

    def plain_attention(
        self, q: Variable, k: Variable, v: Variable, shape: AttentionShape, *, grouped: bool, spread: bool, joined: bool
    ) -> Variable:
        """softmax(q k' / sqrt(d)) v, one operator after another in fp32.

        Where heads are `spread` between the tokens of several sequences, products copy their operands to lay them out;
        queries and keys that were `joined` from turned and other elements lie as products want them.
        Source: attention.cpp, _scaled_dot_product_attention_math.
        """
        width, kv_width = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        queries = self.tokens * width * FULL
        scores = shape.batch * shape.heads * shape.seq * shape.seq
        full_q, full_k, full_v = self.cast(q, width, FULL), self.cast(k, kv_width, FULL), self.cast(v, kv_width, FULL)
        scaled_q = self._passed("scaled queries", full_q, queries, queries)
        mask = self._causal_mask(shape.seq * shape.seq)
        every_k, every_v = full_k, full_v
        if grouped:
            every_k = self._passed("keys of every head", full_k, queries, self.tokens * kv_width * FULL)
            every_v = self._passed("values of every head", full_v, queries, self.tokens * kv_width * FULL)
        scaled_k = self._passed("scaled keys", every_k, queries, queries)

        product = self.shadow.node(scaled_q, scaled_k)
        copied = spread and not joined
        laid_q = self.shadow.allocate("queries laid out", queries) if copied else scaled_q.storage
        laid_k = self.shadow.allocate("keys laid out", queries) if copied and not grouped else scaled_k.storage
        self._save_operands(product, (scaled_q, laid_q), (scaled_k, laid_k))
        scored = Variable(self.shadow.allocate("scores", scores * FULL), FULL, product)
        self._multiplied(shape.seq, shape.head_width, shape.seq, FULL)
        of_scores = self._wanted((scaled_q, "scaled queries", queries), (scaled_k, "scaled keys", queries))
        del laid_q, laid_k, scaled_k
        normalized = self._softmax(scored, scores, shape)
        del scored
        halved = None if shape.element == FULL else self.shadow.allocate("weights in half", scores * shape.element)

        weighted = self.shadow.node(normalized, every_v)
        laid_v = self.shadow.allocate("values laid out", queries) if spread and not grouped else every_v.storage
        self._save_operands(weighted, (normalized, normalized.storage), (every_v, laid_v))
        result = Variable(self.shadow.allocate("attention", queries), FULL, weighted)
        del laid_v
        self._multiplied(shape.seq, shape.seq, shape.head_width, FULL)
        of_result = self._wanted((normalized, "attention weights", scores * FULL), (every_v, "values", queries))
        if product is not None:
            product.run = lambda g: self._product_gradients(of_scores)
        if weighted is not None:
            weighted.run = lambda g: self._product_gradients(of_result)
        if spread:
            result = self.gathered(result, width)
        result = self.cast(result, width, shape.element)
        del mask, halved
        return result

    def lay_out(self, x: Variable, width: Size) -> Variable:
        """The heads of a token side by side: a copy; the gradient is copied back where it is laid out again."""
        node = self.shadow.node(x)
        if node is not None:
            node.run = lambda g: [g]
        return self._new("heads side by side", width, x.element, node)

    def gathered(self, x: Variable, width: Size) -> Variable:
        """A view whose gradient arrives in another layout and is copied into that of `x`."""
        node, size = self.shadow.node(x), self.tokens * width * x.element
        if node is not None:
            node.run = lambda g: [self._gradient("laid out", size)]
        return Variable(x.storage, x.element, node)

    def _passed(self, name: str, x: Variable, size: Size, gradient: Size) -> Variable:
        """An operator that saves nothing: bytes of its result and of the gradient it passes on."""
        node = self.shadow.node(x)
        if node is not None:
            node.run = lambda g: [self._gradient(name, gradient)]
        return Variable(self.shadow.allocate(name, size), x.element, node)

    def _causal_mask(self, elements: Size) -> Storage:
        """Zero below the diagonal, minus infinity above it."""
        ones = self.shadow.allocate("ones", elements)
        triangle = self.shadow.allocate("triangle", elements)
        del ones
        numbers = [self.shadow.allocate("number", FULL) for _ in range(2)]
        mask = self.shadow.allocate("causal mask", elements * FULL)
        del numbers, triangle
        return mask

    def _softmax(self, x: Variable, scores: Size, shape: AttentionShape) -> Variable:
        """The softmax of every row, with rows that are masked as a whole set to zero; saves its result."""
        node = self.shadow.node(x)
        result = Variable(self.shadow.allocate("attention weights", scores * FULL), FULL, node)
        masked = self.shadow.allocate("is masked", scores)
        rows = self.shadow.allocate("rows that are masked", shape.batch * shape.heads * shape.seq)
        self.shadow.scratch("number", FULL)
        del masked, rows
        self.shadow.save(node, result.storage)
        if node is not None:
            node.run = lambda g: [self._softmax_gradient(scores * FULL)]
        return result

    def _softmax_gradient(self, size: Size) -> Gradient:
        gradient = self._gradient("scores", size)
        self.shadow.scratch("gradient times weights", size)
        return gradient

    def _save_operands(
        self, node: Node | None, left: tuple[Variable, Storage], right: tuple[Variable, Storage]
    ) -> None:
        """A product saves of each operand, as it is laid out, what the other's gradient needs."""
        (a, laid_a), (b, laid_b) = left, right
        if a.node is not None:
            self.shadow.save(node, laid_b)
        if b.node is not None:
            self.shadow.save(node, laid_a)

    @staticmethod
    def _wanted(*operands: tuple[Variable, str, Size]) -> list[tuple[str, Size] | None]:
        """Name and bytes of the gradient of each operand that wants one."""
        return [None if x.node is None else (name, size) for x, name, size in operands]

    def _product_gradients(self, wanted: list[tuple[str, Size] | None]) -> list[Gradient | None]:
        """The right operand's gradient is made first."""
        made = [None if one is None else self._gradient(*one) for one in reversed(wanted)]
        return made[::-1]
