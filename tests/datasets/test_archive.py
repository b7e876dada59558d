import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from omib_spatial.datasets import _archive, _fetch, fetch
from omib_spatial.datasets._archive import unpack
from omib_spatial.datasets._registry import RemoteFile

FILES = {"a.txt": b"a", "folder/b.txt": b"b", "folder/deep/c.txt": b"c"}
OUTSIDE = ["../evil.txt", "/evil.txt", "folder/../../evil.txt", "..\\evil.txt", "C:\\evil.txt", "\\evil.txt"]


def tar(path: Path, members: dict[str, bytes] | list[tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        if isinstance(members, list):
            for member in members:
                archive.addfile(member)
        else:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_everything_lands_in_the_folder(tmp_path, kind):
    archive = zipped(tmp_path / "x", FILES) if kind == "zip" else tar(tmp_path / "x", FILES, kind)
    found = unpack(archive, tmp_path / "to")
    assert content(tmp_path / "to") == FILES
    assert found == [tmp_path / "to" / "a.txt", tmp_path / "to" / "folder"]


def test_what_is_there_is_replaced_and_the_rest_stays(tmp_path):
    for name, text in {"folder/old.txt": "old", "a.txt": "old", "mine.txt": "mine"}.items():
        (tmp_path / "to" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "to" / name).write_text(text)
    unpack(tar(tmp_path / "x", FILES), tmp_path / "to")
    assert content(tmp_path / "to") == FILES | {"mine.txt": b"mine"}


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_leads_out_is_refused_before_anything_is_written(tmp_path, make, name):
    archive = make(tmp_path / "x", {"good.txt": b"good", name: b"evil"})
    with pytest.raises(ValueError, match="outside of its folder"):
        unpack(archive, tmp_path / "in" / "to")
    assert content(tmp_path) == {"x": archive.read_bytes()}


@pytest.mark.parametrize(
    "members",
    [
        [special("link", tarfile.SYMTYPE, "/etc/passwd")],
        [special("link", tarfile.SYMTYPE, ".."), special("link/evil.txt", tarfile.REGTYPE)],
        [special("link", tarfile.LNKTYPE, "../x")],
        [special("pipe", tarfile.FIFOTYPE)],
        [special("disk", tarfile.BLKTYPE)],
    ],
)
def test_links_and_devices_are_refused(tmp_path, members):
    with pytest.raises(ValueError, match="a link or a device"):
        unpack(tar(tmp_path / "x", members), tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(ValueError, match="a link or a device"):
        unpack(zipped(tmp_path / "x", {info: b"/etc/passwd"}), tmp_path / "to")


@pytest.mark.parametrize("kind", ["w:gz", "w:xz", "zip"])
def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, kind
):
    monkeypatch.setattr(_archive, "ALWAYS", 1000)
    members = {"a.txt": b"a", "zeros.bin": bytes(4_000_000)}
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in members.items():
                archive.writestr(name, value)
    else:
        tar(tmp_path / "x", members, kind)
    with pytest.raises(ValueError, match=r"has .* MB and unpacks to .* GB or more: do not trust it"):
        unpack(tmp_path / "x", tmp_path / "to")
    assert content(tmp_path / "to") == {}
    monkeypatch.setattr(_archive, "ALWAYS", 2**30)
    unpack(tmp_path / "x", tmp_path / "to")
    assert content(tmp_path / "to") == members


def test_an_encrypted_zip_is_told_as_one(tmp_path):
    path = zipped(tmp_path / "x", {"a.txt": b"secret"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is encrypted \('a\.txt'\): unpack it yourself"):
        unpack(path, tmp_path / "to")
    assert content(tmp_path / "to") == {}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize(
    "names", [("a", "A"), ("folder/a", "FOLDER/A"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "A/B"), ("a", "./a")]
)
def test_two_members_of_one_place_are_refused(tmp_path, make, names):
    archive = make(tmp_path / "x", {"good.txt": b"good", **dict.fromkeys(names, b"evil")})
    with pytest.raises(ValueError, match="would take one place"):
        unpack(archive, tmp_path / "to")
    assert content(tmp_path / "to") == {}


def test_folders_that_are_named_by_themselves_clash_with_nothing(tmp_path):
    unpack(zipped(tmp_path / "x", {"f/": b"", "f/g/": b"", "f/g/a": b"1", "f/b": b"2"}), tmp_path / "zip")
    with tarfile.open(tmp_path / "y", "w") as archive:
        archive.add(tmp_path / "zip" / "f", "f")
    unpack(tmp_path / "y", tmp_path / "tar")
    assert content(tmp_path / "tar") == content(tmp_path / "zip") == {"f/g/a": b"1", "f/b": b"2"}


def test_no_archive_is_named(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="neither a tar nor a zip"):
        unpack(tmp_path / "x", tmp_path / "to")


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:xz"])
def test_a_broken_archive_leaves_nothing(tmp_path, kind):
    noise = np.random.default_rng(0).bytes(200_000)
    whole = tar(tmp_path / "x", {"a.bin": noise, "b.bin": noise[::-1]}, kind).read_bytes()
    (tmp_path / "x").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(ValueError, match="broken"):
        unpack(tmp_path / "x", tmp_path / "to")
    assert content(tmp_path / "to") == {}


def test_a_zip_whose_content_was_changed_is_broken(tmp_path):
    path = zipped(tmp_path / "x", {"a.txt": b"right"})
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))
    with pytest.raises(ValueError, match="broken"):
        unpack(path, tmp_path / "to")
    assert content(tmp_path / "to") == {}


def test_fetch_unpacks_once_and_again_what_was_not_unpacked_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(_fetch, "registry", lambda: {"toy": {"base": "http://x/", "files": [{"path": "x.tar.gz"}]}})
    monkeypatch.setattr(_fetch, "remote_files", lambda _: [RemoteFile("x.tar.gz", "http://x/x.tar.gz", unpack=True)])
    folder = tmp_path / "toy"
    folder.mkdir()
    tar(folder / "x.tar.gz", FILES)  # There already, as after an interruption: nothing is asked of the network.
    assert fetch("toy", cache=tmp_path) == folder and (folder / "folder" / "b.txt").read_bytes() == b"b"
    (folder / "a.txt").write_text("kept")
    fetch("toy", cache=tmp_path)
    assert (folder / "a.txt").read_text() == "kept"
    (folder / "x.tar.gz.unpacked").unlink()
    fetch("toy", cache=tmp_path)
    assert (folder / "a.txt").read_bytes() == b"a"
