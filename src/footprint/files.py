"""Files that are whole or absent: written beside their place, then moved into it; and their hashes. Stdlib only."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from footprint.errors import FootprintError


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
    """The hash of a file, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FootprintError(f"{path}: cannot be read ({error.strerror})") from None


def require_folders(folder: Path) -> None:
    """Raise FootprintError when a file stands where `folder`, one above it or one in it that runs write to belongs."""
    below = [folder / name for name in ("runs", "timelines", "logs", "benchmarks", "finetunings", "stored")]
    shared = [folder.parents[1] / name for name in ("corpus", "base")]
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
