"""A model made in the shadow, tensor by tensor, as `train.regimes` makes it. Sizes are requested bytes."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from footprint.predict.arithmetic import maximum
from footprint.predict.fully_sharded import FullySharded, Group
from footprint.predict.parameters import CODE_BOOK, NESTED_BLOCK, NESTED_CODE_BOOK, NESTED_OFFSET, NF4_BLOCK
from footprint.predict.program import Program
from footprint.predict.replicated import Replicated, State
from footprint.predict.shadow import Storage
from footprint.predict.sharing import Alone, Cut
from footprint.predict.tape import ACTIVATIONS, ADAPTER, FROZEN_BASE, TRAINED, Size
from footprint.spec.block import BIASED
from footprint.spec.precision import FULL, HALF

SCALAR, DOUBLE = 4, 8
"""Bytes of a scalar on the device: fp32, or a Python number made into a tensor."""

PACKED = 1
"""Bytes of an element of a packed matrix, which holds two weights."""


PART = attrgetter("part")


class Made(NamedTuple):
    """A parameter of the model, or this GPU's shard of it."""

    part: str
    """The part of the model it is of."""
    cut: Cut
    kind: str
    storage: Storage
    place: int
    """Where it stands among the parameters of its block; adapters stand where their Linear does."""
    shards: int = 1
    """How many it is cut into."""

    @property
    def elements(self) -> Size:
        """Elements that this GPU holds."""
        return self.cut.held(self.shards)

    def order(self) -> tuple[int, int]:
        """Sorts parameters of blocks as modules are registered."""
        return int(self.part.removeprefix("block ")), self.place


class Building:
    """Makes the model of a program."""

    def __init__(self, program: Program) -> None:
        self.program, self.structure, self.sizes = program, program.structure, program.sizes
        self.shadow = program.shadow
        self.kept: list[Storage] = []
        """Buffers, scales and tables of libraries."""
        self.parameters: list[Made] = []
        """Every parameter, in the order they are registered."""
        self.groups: list[Group] = []
        """What is gathered together where parameters are sharded: every block, then the rest."""
        self._full = self.structure.regime == "full"
        self._element = self.structure.trained if self._full else self.structure.base
        self._kind = TRAINED if self._full else FROZEN_BASE
        self._tables_made = False
        self._buffers: list[State] = []

    def model(self) -> None:
        """Make it: embeddings, every block, norm and head. What is sharded is cut as soon as a block is whole."""
        blocks = range(self.structure.blocks)
        sharded = self.structure.sharding == "fsdp"
        before, inside = self._embeddings(), []
        for block in blocks:
            self.shadow.part = f"block {block}"
            inside += self._sharded_block(block) if sharded else self._block()
        self.shadow.part = ""
        after = self._end()
        if sharded:
            before, after = self._shards_of_the_rest(before, after)
        if not (self._full or sharded):
            inside += self._adapters(blocks)
        self.parameters = [*before, *sorted(inside, key=Made.order), *after]

    def sharing(self) -> Alone:
        """What happens around its forward and backward where several GPUs share it; DDP is wrapped around it here."""
        gpus = self.structure.gpus
        if self.structure.sharding == "fsdp":
            return FullySharded(self.shadow, self.program.kernels, gpus, self.groups)
        if self.structure.sharding == "ddp":
            replicated = Replicated(self.shadow, self.structure, self._buffers)
            replicated.wrap((part, [made.cut for made in some]) for part, some in groupby(self.parameters, PART))
            return replicated
        return Alone()

    # --- whole ------------------------------------------------------------------------------------------------------

    def _embeddings(self) -> list[Made]:
        sizes = self.sizes
        made = [self._base("tokens", sizes.vocab, sizes.width)]
        if self.structure.block.positions == "learned":
            return [*made, self._base("positions", sizes.context, sizes.width)]
        self._rotary()
        return made

    def _end(self) -> list[Made]:
        sizes, made = self.sizes, list(self._norms(self.sizes.width))
        if not self.structure.tied_head:
            return [*made, self._base("head", sizes.vocab, sizes.width)]
        self.shadow.scratch("head that is tied", sizes.vocab * sizes.width * self._element)
        return made

    def _block(self) -> list[Made]:
        made = list(self._norms(self.sizes.width))
        for place, name, (d_in, d_out) in self._linears():
            if name == self._first_of_mlp:
                for width in self._normed_heads():
                    made.append(self._base("norm weight", width, 1, place - 1))
                made += self._norms(self.sizes.width, place - 1)
            if self.structure.regime == "qlora":
                matrix = self.shadow.allocate("matrix to quantize", d_in * d_out * self._element)
                biases = list(self._bias(name, d_out, place))
                made += [self._quantized(name, d_in * d_out, place), *biases]
                del matrix
            else:
                made += [self._base(name, d_out, d_in, place), *self._bias(name, d_out, place)]
        return made

    def _bias(self, name: str, width: Size, place: int) -> Iterator[Made]:
        if name in BIASED[self.structure.block.biases]:
            yield self._base(f"{name} bias", width, 1, place)

    def _base(self, name: str, rows: Size, columns: Size, place: int = 0) -> Made:
        cut = Cut(name, rows, columns, self._element, self._full)
        return self._parameter(cut, self._kind, place)

    def _parameter(self, cut: Cut, kind: str, place: int) -> Made:
        storage = self.shadow.allocate(cut.name, cut.rows * cut.columns * cut.element, kind)
        return Made(self.shadow.part, cut, kind, storage, place)

    def _norms(self, width: Size, place: int = 0) -> Iterator[Made]:
        return (self._base(name, width, 1, place) for name in self.structure.block.norm_parameters)

    def _normed_heads(self) -> tuple[Size, ...]:
        """Elements of the norms of queries and keys."""
        sizes, of = self.sizes, self.structure.block.qk_norm
        if of == "head":
            return sizes.head_width, sizes.head_width
        return (sizes.head_width * sizes.heads, sizes.head_width * sizes.kv_heads) if of == "width" else ()

    def _keep(self, name: str, size: Size, kind: str) -> None:
        self.kept.append(self.shadow.allocate(name, size, kind))

    @property
    def _first_of_mlp(self) -> str:
        return "gate_proj" if self.structure.block.mlp == "swiglu" else "up_proj"

    def _linears(self) -> Iterator[tuple[int, str, tuple[Size, Size]]]:
        """The Linears of a block in the order they are registered: where each stands, its name, (d_in, d_out).

        Between two of them there is a place for norms.
        """
        sizes = self.sizes
        width, inner = sizes.width, sizes.heads * sizes.head_width
        keys = width, sizes.kv_heads * sizes.head_width
        shapes = {"q_proj": (width, inner), "k_proj": keys, "v_proj": keys, "o_proj": (inner, width)}
        if self.structure.block.mlp == "swiglu":
            shapes["gate_proj"] = width, sizes.mlp_width
        shapes |= {"up_proj": (width, sizes.mlp_width), "down_proj": (sizes.mlp_width, width)}
        for index, (name, shape) in enumerate(shapes.items()):
            yield 2 * index + 2, name, shape

    def _rotary(self) -> None:
        """The tables in fp32, cast to the dtype of the queries, then filled (minigpt.Rotary.reset)."""
        rows, half_width = maximum(self.sizes.context, self.sizes.seq), self.sizes.rotary_width // 2
        element = HALF if self.structure.autocast else self._element
        table = rows * 2 * half_width
        tables = [self.shadow.allocate("rotary table in fp32", table * FULL, FROZEN_BASE) for _ in range(2)]
        if element != FULL:
            for index in range(2):
                tables[index] = self.shadow.allocate("rotary table", table * element, FROZEN_BASE)
        self.kept += tables
        self._buffers = [(table * element, element)] * 2
        positions = self.shadow.allocate("positions", rows * FULL)
        pairs = self.shadow.allocate("pairs", half_width * FULL)
        negated = self.shadow.allocate("negated pairs", half_width * FULL)
        exponents = self.shadow.allocate("exponents", half_width * FULL)
        del negated
        frequencies = self.shadow.allocate("frequencies", half_width * FULL)
        base = self.shadow.allocate("base of the powers", DOUBLE)
        del exponents, base
        outer = self.shadow.allocate("outer product", rows * half_width * FULL)
        del frequencies
        angles = self.shadow.allocate("angles", table * FULL)
        del outer
        for _ in range(2):
            self.shadow.scratch("cosines or sines", table * FULL)
        del positions, pairs, angles

    def _quantized(self, name: str, elements: Size, place: int) -> Made:
        """bitsandbytes' Params4bit: a dense matrix becomes packed weights, scales and a code book (functional.py)."""
        blocks = -(-elements // NF4_BLOCK)
        nested = self.structure.nested_scales
        scales = self.shadow.allocate("scales", blocks * FULL, *([] if nested else [FROZEN_BASE]))
        packed = self._parameter(Cut(name, -(-elements // 2), 1, PACKED, False), FROZEN_BASE, place)
        self._keep("code book", CODE_BOOK, FROZEN_BASE)
        magnitudes = self.shadow.allocate("magnitudes", CODE_BOOK)
        largest = self.shadow.allocate("largest", SCALAR)
        del magnitudes, largest
        if not nested:
            self.kept.append(scales)
            return packed
        self._keep("offset", NESTED_OFFSET, FROZEN_BASE)
        self.program.kernels.whole_sum(blocks, self.shadow.allocate)
        shifted = self.shadow.allocate("shifted scales", blocks * FULL)
        if not self._tables_made:
            self._keep("table of the library", NESTED_CODE_BOOK, ACTIVATIONS)
            self._tables_made = True
        self._keep("scales of scales", -(-blocks // NESTED_BLOCK) * FULL, FROZEN_BASE)
        self._keep("quantized scales", blocks, FROZEN_BASE)
        self._keep("code book of scales", NESTED_CODE_BOOK, FROZEN_BASE)
        del shifted, scales
        return packed

    def _adapters(self, blocks: Iterable[int]) -> list[Made]:
        """PEFT makes adapters in the dtype of their base; then each is cast to the dtype that trains."""
        rank, trains, made = self.sizes.rank, self.structure.trained, []
        before = self.shadow.part
        for block in blocks:
            self.shadow.part = f"block {block}"
            for place, name, (d_in, d_out) in self._linears():
                shapes = {"A": (rank, d_in), "B": (d_out, rank)} if name in self.structure.adapted else {}
                for matrix, (rows, columns) in shapes.items():
                    storage = self.shadow.allocate("adapter", rows * columns * self.structure.base, ADAPTER)
                    cut = Cut(f"{name} {matrix}", rows, columns, trains, True)
                    made.append(Made(self.shadow.part, cut, ADAPTER, storage, place))
                    del storage
        if trains != self.structure.base:
            for index, given in enumerate(made):
                self.shadow.part = given.part
                made[index] = self._parameter(given.cut, ADAPTER, given.place)
        self.shadow.part = before
        return made

    # --- sharded ----------------------------------------------------------------------------------------------------

    def _sharded_block(self, block: int) -> list[Made]:
        """A block with its adapters, cut once it is whole."""
        part = self.shadow.part
        whole = self._block()
        if not self._full:
            whole += self._adapters([block])
        return self._shards(sorted(whole, key=Made.order), (part,))

    def _shards_of_the_rest(self, before: list[Made], after: list[Made]) -> tuple[list[Made], list[Made]]:
        shards = self._shards(before + after, ("embedding", "head"))
        return shards[: len(before)], shards[len(before) :]

    def _shards(self, whole: list[Made], parts: tuple[str, ...]) -> list[Made]:
        """This GPU's shards of some parameters, which are gathered together from now on."""
        gpus = self.structure.gpus
        self.groups.append(Group(parts, [made.cut for made in whole]))
        return [
            made._replace(storage=self.shadow.allocate("shard", made.cut.shard(gpus), made.kind), shards=gpus)
            for made in whole
        ]
