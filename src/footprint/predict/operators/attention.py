"""Rotary positions and attention."""

from footprint.predict.operators.elementwise import Elementwise
from footprint.predict.shadow import Gradient, Variable
from footprint.predict.tape import Size
from footprint.spec.precision import FULL


class Attention(Elementwise):
    """What lies between the projections of an attention block."""

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
        seeds = [self.shadow.allocate("attention seed", size) for size in self.kernels.attention_seeds]
        self.shadow.save(node, result.storage, log_sum_exp, *seeds)
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
