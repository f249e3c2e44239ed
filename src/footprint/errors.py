"""The one exception a user can cause: its message is the whole story, shown without a traceback."""


class FootprintError(ValueError):
    """Input that cannot be honoured. The message is one sentence naming the key, the value and what is allowed."""
