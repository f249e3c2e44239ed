"""What `--config` says on the command line, because Snakemake shows a traceback for an invalid entry."""

from collections.abc import Callable, Sequence

from snakemake import cli

from footprint.errors import FootprintError, user_errors
from snakemake_logger_plugin_footprint.clone import in_clone

Parser = Callable[[Sequence[str] | None], dict]


def parse_strictly() -> None:
    """Let Snakemake refuse an entry of --config that is not name=value in one sentence."""
    cli.parse_config = strict(cli.parse_config)


def strict(usual: Parser) -> Parser:
    """The `usual` parser, which no longer raises where Snakemake is started in a clone of this project."""

    def parse(entries: Sequence[str] | None) -> dict:
        if not in_clone():
            return usual(entries)
        with user_errors():
            for entry in entries or ():
                _require_entry(entry, usual)
        return usual(entries)

    return parse


def _require_entry(entry: str, usual: Parser) -> None:
    try:
        usual([entry])
    except (ValueError, AssertionError):  # the latter for a value of blanks alone
        raise FootprintError(
            f"--config: {entry[:60]!r} is not allowed; use key=value with a key and a value of the config, for example "
            "device=cuda; targets stand before --config"
        ) from None
