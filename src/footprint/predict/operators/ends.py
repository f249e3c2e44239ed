"""Where a step begins and ends: embeddings and the loss."""

from collections.abc import Callable

from footprint.predict.operators.elementwise import Elementwise
from footprint.predict.shadow import Gradient, Node, Variable
from footprint.predict.tape import Size
from footprint.spec.precision import FULL


class Ends(Elementwise):
    """Tokens to vectors, and logits to one number."""

    def embedding(
        self, vocab: Size, width: Size, element: Size, trained: bool, *, shared: Node | None = None
    ) -> Variable:
        """Rows of the token table; saves the token ids, which the batch keeps anyway.

        `shared` accumulates the table's gradient when the head uses the same table.
        """
        node = self.shadow.node(Variable(None, element, shared), trained=trained)
        self.shadow.save(node, None)
        size = vocab * width * element
        if node is not None:
            make = self._gradient if shared is not None else self._parameter_gradient
            node.run = lambda g: [self._sum_of_rows(vocab, width, element, lambda: make("tokens", size))]
        return self._new("token embedding", width, element, node)

    def _sum_of_rows(
        self, vocab: Size, width: Size, element: Size, make: Callable[[], Gradient | None]
    ) -> Gradient | None:
        return self.kernels.embedding_gradient(self.tokens, vocab, width, element, self.shadow.allocate, make)

    def add_positions(self, x: Variable, context: Size, width: Size, element: Size, trained: bool) -> Variable:
        """x + the first rows of the position table; the table's gradient is summed over the batch, then padded."""
        positions = self.shadow.node(trained=trained)
        node = self.shadow.node(x, Variable(x.storage, element, positions))
        rows, table = self.seq * width * element, context * width * element
        if positions is not None:
            positions.run = lambda g: self._parameter_gradient("positions", table) or ()
            node.run = lambda g: [g, self._gradient("positions", rows)]
        return self._new("embedded", width, element, node)

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
        loss = Variable(self.shadow.allocate("loss", FULL), FULL, loss_node)
        total_weight = self.shadow.allocate("loss total weight", FULL)
        self.shadow.save(loss_node, log_probabilities, total_weight)
        if loss_node is not None:
            loss_node.run = lambda g: [self._gradient("log-probabilities", size)]
        return loss
