"""How many cards hold a fine-tuning, in sentences: for the report, and for docs/several-gpus.md."""

from footprint.report.page.words import card_name, listing, size_name
from footprint.report.reading.several_gpus import Sharded

CLAIMED = (4, 8)
"""The fewest and the most A100s that the lesson calls typical for full fine-tuning of 7B and more."""

UNCOUNTED = (
    "No real cards have checked this. What NCCL, NVIDIA's library for messages between GPUs, takes outside PyTorch's "
    "allocator is not counted, so a run that barely fits here may not fit there."
)

ABOVE = (
    "16 N / cards is the textbook's share of each card: weights, gradients and Adam's moments, evenly split. What lies "
    "above it does not shrink with the number of cards: the whole weights of the block at work, of embedding and head, "
    "gradients that are not split yet, and activations."
)


def number(found: Sharded, card: str, *setting: str, more: str = "more than ") -> str:
    """The fewest cards of a kind that hold a setting, in a word: `4`, `more than 16`, or that nobody tried."""
    fewest = found.fewest(card, *setting)
    if fewest is not None:
        return str(fewest)
    return f"{more}{found.gpus[-1]}" if found.is_whole(*setting) else "not tried"


def setting(found: Sharded) -> str:
    """What was rehearsed."""
    sizes, counts = listing(map(size_name, found.models)), listing(map(str, found.gpus))
    return (
        f"PyTorch's FSDP2 splits weights, gradients and Adam's moments evenly over the cards; every card trains on one "
        f"sequence of {found.tokens:,} tokens of its own. Llama shapes of {sizes} were rehearsed on {counts} cards (on "
        "one, nothing is split), with bf16 computation. In full fine-tuning weights, gradients and moments are fp32. "
        "Under LoRA frozen weights are bf16; under QLoRA the blocks' Linears are NF4 with double quantization, whose "
        "scales lie whole on every card. Adapters have rank 16 and sit on all Linears of the blocks."
    )


def title(found: Sharded) -> str:
    """How many of the largest card each model takes in full, every block checkpointed."""
    card, last = found.cards[-1], found.checkpointing[-1]
    first, *others = (f"of {size_name(model)} {{}}{number(found, card, model, 'full', last)}" for model in found.models)
    each = listing([first.format("takes "), *(other.format("") for other in others)])
    return f"How many GPUs: full fine-tuning {each} {card_name(card)} cards"


def against_the_lesson(found: Sharded) -> str:
    """What became of the lesson's 4 to 8 cards, in two sentences."""
    low, high = CLAIMED
    return (
        f"The lesson that this project started from calls {low} to {high} A100s typical for full fine-tuning of 7B and "
        f"more. With every block checkpointed it takes {fewest_in_full(found)}."
    )


def fewest_in_full(found: Sharded) -> str:
    """Of each kind of card the fewest that hold each model in full: `4 A100 40GB for 7B and 8 for 13B; ...`."""
    last, kinds = found.checkpointing[-1], []
    for card in found.cards:
        fewest = [number(found, card, model, "full", last) for model in found.models]
        fewest[0] += f" {card_name(card)}"
        kinds.append(listing(f"{n} for {size_name(model)}" for n, model in zip(fewest, found.models, strict=True)))
    return "; ".join(kinds)


def typical_for(found: Sharded) -> list[str]:
    """The sizes whose full fine-tuning takes as many cards, of some kind, as the lesson calls typical."""
    low, high = CLAIMED
    last = found.checkpointing[-1]
    needed = {model: [found.fewest(card, model, "full", last) for card in found.cards] for model in found.models}
    return [size_name(model) for model, counts in needed.items() if any(low <= (n or 0) <= high for n in counts)]
