"""What every command line of the project shares: how it starts, and what it says where a package is missing."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from importlib.util import find_spec

from footprint.errors import FootprintError, user_errors


def run(parser: ArgumentParser, action: Callable[[Namespace], object], arguments: list[str] | None = None) -> None:
    """Parse the command line and carry out `action` on it; a script's whole main function."""
    parsed = parser.parse_args(arguments)
    with user_errors():
        action(parsed)


def require_installed(extra: str, *packages: str) -> None:
    """Raise FootprintError where a package of the installation's `extra` is missing: a light one only predicts."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise FootprintError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; in the clone, run "
            f"`make install` or `pip install '.[{extra}]'`"
        )
