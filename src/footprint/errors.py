"""The one exception a user can cause: its message is the whole story, shown without a traceback."""


class FootprintError(ValueError):
    """Input that cannot be honoured. The message is one sentence naming the key, the value and what is allowed."""


def missing_formula(axis: str, value: str) -> FootprintError:
    """The error for something that can be trained but not predicted: whoever adds it learns what is left to do."""
    return FootprintError(f"{axis}: {value!r} has no formula in footprint.predict; add one or use another {axis}")
