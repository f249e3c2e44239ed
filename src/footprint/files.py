"""Files that are whole or absent: written to a temporary file, then renamed; and their hashes. Stdlib only."""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from footprint.errors import FootprintError

AGAIN = "run the workflow again"
"""What makes a file that is missing."""

MADE_ANEW = f"delete it and {AGAIN}"
"""What helps against a file that is refused."""

AS_TARGET = "start Snakemake with its path as the target"
"""What makes a text or a base that is missing: the workflow makes it only when a run needs it, and repeats all then."""

ANEW_AS_TARGET = f"delete it and {AS_TARGET}"
"""What helps against a text or a base that is refused."""

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
"""What may stand where a regular file belongs."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends and vanishes when it raises.

    Raises FootprintError where the file cannot be written (read-only folder, full disk); an OSError
    of what the block reads is the block's to translate.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A run's name nearly fills the 255 bytes of a file name, so the temporary one takes a part of it.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from None
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never half of it."""
    with replacing(path) as file:
        file.write(text.encode())


def sha256(path: Path) -> str:
    """The hash of a file that the workflow makes, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, "file", error) from None


def read_text(path: Path, kind: str) -> str:
    """The text of a file that the workflow makes; FootprintError unless it is there and UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise unreadable(path, kind, error) from None


def unreadable(path: Path, kind: str, error: Exception, again: str = AGAIN) -> FootprintError:
    """What to raise, and say, where a file that the workflow makes is missing or is not the `kind` it should be."""
    if isinstance(error, FileNotFoundError):
        return FootprintError(f"{path}: is missing; {again}")
    reason = getattr(error, "strerror", None) or error
    return FootprintError(f"{path}: not a readable {kind} ({reason}); delete it and {again}")


def require_regular(path: Path) -> None:
    """Raise OSError, which says what stands there, unless `path` is a regular file.

    A pipe would be waited for, and a device read, for ever: this comes before the file is opened.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "something else")
        raise OSError(errno.EINVAL, f"is not a regular file but {kind}", str(path))


def read_bounded(path: Path, largest: int) -> bytes:
    """The whole of a file that a user has named.

    Raises FootprintError for one of more than `largest` bytes, and OSError where it cannot be read or is no regular
    file: whoever asks knows what the file is for.
    """
    require_regular(path)
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise FootprintError(f"{path}: is larger than {largest // 2**20} MiB; use a file of at most {largest} bytes")
    return content


def require_folders(folder: Path) -> None:
    """Raise FootprintError when a file stands where `folder`, one above it or one in it that runs write to belongs."""
    below = [folder / name for name in ("runs", "timelines", "logs", "benchmarks", "finetunings", "stored")]
    shared = [folder.parents[1] / name for name in ("corpus", "base")]
    for place in (*reversed(folder.parents), folder, *below, *shared):
        if place.exists() and not place.is_dir():
            raise FootprintError(f"{place}: is a file where results need a folder; move it away")


def require_writable(folder: Path) -> None:
    """Raise FootprintError unless files can be made in the folder; it is made when it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write(folder, error) from None


def _cannot_write(path: Path, error: OSError) -> FootprintError:
    return FootprintError(f"{path}: cannot be written ({error.strerror or error}); use a folder with space and access")
