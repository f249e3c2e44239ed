"""What a figure or a table of the report raises when it has nothing to show."""


class NoRunsError(Exception):
    """This experiment has no runs for a figure or table; the message is the sentence that stands in its place."""
