import errno
import hashlib
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from omib_spatial.datasets import _fetch, fetch
from omib_spatial.datasets._download import ResumingDownloader

CONTENT = np.random.default_rng(0).bytes(300_000)
PIECE = 2**17  # of whole chunks, as what is received of a chunk that breaks off is lost
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files` by path; `breaks_after` bytes of a body it hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/a.bin": CONTENT}
        self.tag: str | None = '"one"'
        self.ranges, self.lengths, self.breaks_after = True, True, None
        self.asked: list[str | None] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if self.path not in server.files:
            return self.send_error(404)
        body, start = server.files[self.path], 0
        if wanted and server.ranges and self.headers.get("If-Range", server.tag) == server.tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.tag is not None:
            self.send_header("ETag", server.tag)
        if server.lengths:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        part = body[start:] if server.breaks_after is None else body[start : start + server.breaks_after]
        server.sent += len(part)
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def entry(server, monkeypatch):
    """One that the registry calls `toy`, with one file, to be changed by a test."""
    entry = {"base": server.url + "/", "files": [{"path": "a.bin", "sha256": SHA256, "size": len(CONTENT)}]}
    monkeypatch.setattr(_fetch, "registry", lambda: {"toy": entry})
    return entry


def get(cache: Path) -> bytes:
    return (fetch("toy", cache=cache, progress_bar=False) / "a.bin").read_bytes()


def leftovers(cache: Path) -> set[str]:
    return {path.name for path in cache.rglob("*") if path.is_file()}


def test_a_file_is_downloaded_once(server, entry, tmp_path):
    assert get(tmp_path) == CONTENT and get(tmp_path) == CONTENT
    assert server.asked == [None] and leftovers(tmp_path) == {"a.bin"}


def test_the_cache_is_the_argument_or_the_environment_variable(entry, tmp_path, monkeypatch):
    monkeypatch.setenv("OMIB_CACHE", str(tmp_path / "variable"))
    assert fetch("toy", progress_bar=False) == tmp_path / "variable" / "toy"
    assert fetch("toy", cache=tmp_path / "argument", progress_bar=False) == tmp_path / "argument" / "toy"
    entry["revision"] = "release 2"
    assert fetch("toy", progress_bar=False) == tmp_path / "variable" / "toy-release-2"


def test_a_file_that_was_changed_on_disk_is_downloaded_again(server, entry, tmp_path):
    get(tmp_path)
    (tmp_path / "toy" / "a.bin").write_bytes(b"other")
    assert get(tmp_path) == CONTENT and len(server.asked) == 2


def test_a_wrong_digest_removes_the_file_and_names_both(server, entry, tmp_path):
    entry["files"][0]["sha256"] = wrong = "0" * 64
    with pytest.raises(ValueError) as error:
        get(tmp_path)
    assert wrong in str(error.value) and SHA256 in str(error.value)
    assert leftovers(tmp_path) == set()


def test_a_wrong_size_removes_the_file_and_names_both(entry, tmp_path):
    entry["files"][0] |= {"size": 17, "sha256": "unknown"}
    with pytest.raises(ValueError, match=f"{len(CONTENT)} bytes in place of 17"):
        get(tmp_path)
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("digest", [SHA256, "unknown"])
def test_a_truncated_file_is_no_file(server, entry, tmp_path, digest):
    entry["files"][0]["sha256"] = digest
    server.breaks_after = PIECE
    with pytest.raises(OSError, match=f"{PIECE} bytes are kept"):
        get(tmp_path)
    assert "a.bin" not in leftovers(tmp_path)


def test_without_a_length_the_known_size_finds_what_is_missing(server, entry, tmp_path):
    entry["files"][0]["sha256"] = "unknown"
    server.lengths, server.breaks_after = False, 1000
    with pytest.raises(ValueError, match=f"1000 bytes in place of {len(CONTENT)}"):
        get(tmp_path)


def test_an_address_without_a_file_says_so(entry, tmp_path):
    entry["files"][0]["path"] = "b.bin"
    with pytest.raises(OSError, match=r"b\.bin answers 404"):
        get(tmp_path)
    assert leftovers(tmp_path) == set()


def test_a_server_that_does_not_answer_is_an_oserror(server, entry, tmp_path):
    entry["base"] = "http://127.0.0.1:1/"
    with pytest.raises(OSError, match="broke off"):
        get(tmp_path)


def test_an_interrupted_download_goes_on_where_it_stopped(server, entry, tmp_path):
    server.breaks_after = PIECE
    for _ in range(2):
        with pytest.raises(OSError):
            get(tmp_path)
    server.breaks_after = None
    assert get(tmp_path) == CONTENT
    assert server.asked == [None, f"bytes={PIECE}-", f"bytes={2 * PIECE}-"] and server.sent == len(CONTENT)
    assert leftovers(tmp_path) == {"a.bin"}


@pytest.mark.parametrize("change", ["no ranges", "no version", "another version"])
def test_what_cannot_go_on_starts_again(server, entry, tmp_path, change):
    if change == "no version":
        server.tag = None
    server.breaks_after = PIECE
    with pytest.raises(OSError):
        get(tmp_path)
    server.breaks_after = None
    if change == "no ranges":
        server.ranges = False
    if change == "another version":
        other = server.files["/a.bin"] = CONTENT[::-1]
        server.tag, entry["files"][0]["sha256"] = '"two"', hashlib.sha256(other).hexdigest()
    assert get(tmp_path) == server.files["/a.bin"]
    assert server.sent == PIECE + len(CONTENT)


def test_old_bytes_never_go_under_a_new_version(server, entry, tmp_path, monkeypatch):
    server.breaks_after = PIECE
    with pytest.raises(OSError):
        get(tmp_path)
    server.files["/a.bin"], server.tag, server.breaks_after = CONTENT[::-1], '"two"', None
    entry["files"][0]["sha256"] = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ResumingDownloader, "_write", interrupt)
        get(tmp_path)
    assert get(tmp_path) == CONTENT[::-1]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_weak_tag_promises_no_bytes(server, entry, tmp_path):
    server.tag, server.breaks_after = 'W/"one"', PIECE
    with pytest.raises(OSError):
        get(tmp_path)
    server.breaks_after = None
    assert get(tmp_path) == CONTENT and server.asked == [None, None]


def test_a_part_that_is_too_long_starts_again(server, entry, tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "a.bin.part").write_bytes(CONTENT + b"more")
    (folder / "a.bin.part.version").write_text(server.tag)
    assert get(tmp_path) == CONTENT and server.asked == [f"bytes={len(CONTENT) + 4}-", None]


def test_files_lie_in_folders_and_each_is_fetched(server, entry, tmp_path):
    server.files["/deep/b.txt"] = b"b"
    entry["files"].append({"path": "deep/b.txt"})
    folder = fetch("toy", cache=tmp_path, progress_bar=False)
    assert (folder / "deep" / "b.txt").read_bytes() == b"b" and (folder / "a.bin").is_file()


def test_a_file_without_a_digest_has_it_in_the_log(entry, tmp_path, caplog):
    entry["files"][0]["sha256"] = "unknown"
    with caplog.at_level(logging.INFO, "omib_spatial"):
        get(tmp_path)
    assert SHA256 in caplog.text


def test_the_progress_bar_counts_from_where_it_goes_on(server, entry, tmp_path, capsys):
    server.breaks_after = PIECE
    with pytest.raises(OSError):
        get(tmp_path)
    assert capsys.readouterr().err == ""
    server.breaks_after = None
    fetch("toy", cache=tmp_path)
    line = capsys.readouterr().err.split("\r")
    assert "a.bin:  44%" in "".join(line) and "300k/300k" in line[-1]


def test_without_files_the_steps_are_said(monkeypatch, tmp_path, caplog):
    entry = {"licence": "ask first", "steps": ["Write a letter.", "Wait."]}
    monkeypatch.setattr(_fetch, "registry", lambda: {"toy": entry})
    with caplog.at_level(logging.INFO, "omib_spatial"), pytest.raises(PermissionError) as error:
        fetch("toy", cache=tmp_path)
    for text in (str(error.value), caplog.text):
        assert "1. Write a letter." in text and "2. Wait." in text
    assert "ask first" in str(error.value) and list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_answered_with_the_known_ones(entry):
    with pytest.raises(KeyError, match=r"'tay'.*toy"):
        fetch("tay")


def test_two_fetches_at_once_download_once_and_both_find_it(server, entry, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: get(tmp_path), range(4)))
    assert found == [CONTENT] * 4 and server.asked == [None]
    assert leftovers(tmp_path) == {"a.bin"}


def test_a_file_of_another_size_is_downloaded_again_even_without_a_digest(server, entry, tmp_path):
    entry["files"][0]["sha256"] = "unknown"
    get(tmp_path)
    (tmp_path / "toy" / "a.bin").write_bytes(CONTENT[:-1])
    assert get(tmp_path) == CONTENT and len(server.asked) == 2


def test_links_under_temporary_names_are_not_followed(server, entry, tmp_path):
    (tmp_path / "toy").mkdir()
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in ("a.bin.part", "a.bin.part.version"):
        (tmp_path / "toy" / name).symlink_to(mine)
    assert get(tmp_path) == CONTENT and mine.read_text() == "mine"
    assert leftovers(tmp_path) == {"a.bin", "mine"}


def test_a_full_disk_keeps_what_came_and_leaves_no_file(server, entry, tmp_path, monkeypatch):
    def full(self, chunks, have, total):
        self.part.write_bytes(CONTENT[:PIECE])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(ResumingDownloader, "_write", full)
        get(tmp_path)
    assert leftovers(tmp_path) == {"a.bin.part", "a.bin.part.version"}
    assert get(tmp_path) == CONTENT and server.asked[-1] == f"bytes={PIECE}-"
