"""The exception for user errors: its message is one sentence, shown without a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

USER_ERROR = 2
"""Exit status of a command whose input cannot be honoured, as argparse itself uses it."""


class FootprintError(ValueError):
    """Input that cannot be honoured. The message is one sentence naming the key, the value and what is allowed."""


def in_one_line(error: Exception) -> str:
    """What another library's error says, as part of a sentence: without breaks, and not at any length."""
    said = " ".join(str(error).split()) or type(error).__name__
    return (said if len(said) <= 300 else said[:297] + "...").rstrip(".:")


def missing_formula(axis: str, value: str) -> FootprintError:
    """The error for something that can be trained but not predicted: whoever adds it learns what is left to do."""
    return FootprintError(f"{axis}: {value!r} has no formula in footprint.predict; add one or use another {axis}")


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a FootprintError raised inside the block into `error: ...` on stderr and exit status 2."""
    try:
        yield
    except FootprintError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(USER_ERROR) from None
