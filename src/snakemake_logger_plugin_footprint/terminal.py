"""What a person sees of Snakemake: each step that is not a run by its name, and what failed with its reason.

Runs have a line each from `footprint.jobs.progress`. Everything else is in Snakemake's own log under .snakemake/log.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from footprint.jobs.progress import COLUMNS, Progress

AGAIN = ("RuleException:", "At least one job did not complete", "Shutting down", "Exiting because a job")
"""Words with which Snakemake says once more that a job has failed."""


class LogHandler(LogHandlerBase):
    """Writes a few lines to stderr; a plan (--dry-run) is shown as Snakemake shows it."""

    writes_to_stream = True
    writes_to_file = False
    has_formatter = False
    needs_rulegraph = False

    @property
    def has_filter(self) -> bool:
        """Whether Snakemake's own filter stays away."""
        return not self.common_settings.dryrun

    def emit(self, record: logging.LogRecord) -> None:
        """Write what this record says to a person, if anything."""
        lines = [self.format(record)] if self.common_settings.dryrun else said(record)
        for line in filter(None, lines):
            print(line, file=sys.stderr, flush=True)


def said(record: logging.LogRecord) -> Iterator[str]:
    """The lines that a record is worth."""
    event = getattr(record, "event", None)
    if event == LogEvent.JOB_INFO:
        if record.output and record.rule_name not in COLUMNS:
            yield f"{record.rule_name} ..."
    elif event == LogEvent.JOB_ERROR:
        yield from _failed(vars(record))
    elif event == LogEvent.GROUP_ERROR:
        for job in record.job_error_info:
            yield from _failed(job)
    elif record.getMessage() == NOTHING_TO_BE_DONE_MSG:
        yield nothing_to_do(Progress.report)
    elif record.levelno >= logging.WARNING and not any(words in record.getMessage() for words in AGAIN):
        yield record.getMessage()


def nothing_to_do(report: Path | None) -> str:
    """What to say where every file that was asked for is there; `report` is the experiment's, made or not."""
    where = f"; the report is {report}" if report and report.exists() else ""
    return f"Nothing to be done: all that was asked for is there and up to date{where}."


def _failed(job: Mapping) -> Iterator[str]:
    """Why a job failed, in the last words of its log."""
    logs = [Path(path) for path in job["log"] or ()]
    words = [line for path in logs if path.exists() for line in path.read_text(errors="replace").splitlines()]
    reason = words[-1].removeprefix("error: ") if words else "it left no word"
    yield f"{job['rule_name']} failed: {reason}"
    yield from (f"  log: {path}" for path in logs)
