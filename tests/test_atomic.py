"""Files are as they were or as they shall be, whatever goes wrong."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omib_spatial._atomic import check_folder, check_target, locked, replacing, scratch


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(target: Path, text: str = "new") -> None:
    with replacing(target) as path:
        path.write_text(text)


def test_a_file_appears_with_its_folder_and_alone(tmp_path):
    write(tmp_path / "deep" / "a.txt")
    assert (tmp_path / "deep" / "a.txt").read_text() == "new" and names(tmp_path / "deep") == ["a.txt"]


def test_until_the_end_the_old_file_is_there(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as path:
        path.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("x"), KeyboardInterrupt()]
)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)) as caught, replacing(target) as path:
        path.write_text("ne")
        raise error
    assert target.read_text() == "old" and names(tmp_path) == ["a.txt"]
    if isinstance(error, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert f"{target} could not be written" in str(caught.value) and "No space left" in str(caught.value)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_modes_follow_the_umask_whatever_the_maker_chose(tmp_path, umask):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a.txt") as path:
            path.touch(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_link_to_a_file_stays_a_link_and_one_under_a_temporary_name_is_not_followed(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "real.txt").write_text("old")
    (tmp_path / "a.txt").symlink_to(tmp_path / "other" / "real.txt")
    for waiting in ("a.txt.partial", ".a.txt.partial", ".a.txt.x.partial"):
        (tmp_path / waiting).symlink_to(tmp_path / "other")
    write(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "other" / "real.txt").read_text() == "new"
    assert names(tmp_path / "other") == ["real.txt"]


def test_names_as_long_as_they_may_be_and_odd_ones(tmp_path):
    for name in ("ä" * 127, "x" * 255, "[*]?", "-", ".hidden"):
        write(tmp_path / name)
        assert (tmp_path / name).read_text() == "new"
    assert len(names(tmp_path)) == 5


KILLED = """
import os, signal, sys
from omib_spatial._atomic import replacing
with replacing(sys.argv[1]) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, target])
    assert killed.returncode == -signal.SIGKILL
    assert target.read_text() == "old" and len(names(tmp_path)) == 2
    write(tmp_path / "b.txt")
    assert len(names(tmp_path)) == 3
    write(target)
    assert names(tmp_path) == ["a.txt", "b.txt"] and target.read_text() == "new"


LIMITED = """
import resource, sys
import anndata, numpy
from omib_spatial._atomic import replacing
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with replacing(sys.argv[1]) as path:
    anndata.AnnData(numpy.ones((300, 300))).write_h5ad(path)
"""


def test_hdf5_on_a_disk_that_fills_up_leaves_the_old_file(tmp_path):
    """No file may grow beyond 100 kB, which the kernel answers as it answers a full disk: in the middle of a write."""
    target = tmp_path / "a.h5ad"
    target.write_text("old")
    done = subprocess.run([sys.executable, "-c", LIMITED, target], capture_output=True, text=True)
    # HDF5 complains of the disk at length by itself, and may crash when the process ends.
    assert done.returncode != 0
    assert f"{target} could not be written, and what was there is as it was: File too large." in done.stderr
    assert target.read_text() == "old" and names(tmp_path) == ["a.h5ad"]


def test_a_writer_at_work_is_no_leftover(tmp_path):
    target = tmp_path / "a.txt"
    with replacing(target) as first:
        first.write_text("first")
        write(target, "second")
        assert target.read_text() == "second"
    assert target.read_text() == "first" and names(tmp_path) == ["a.txt"]


def test_what_another_sweeper_left_half_removed_goes_too(tmp_path):
    with scratch(tmp_path / "a") as folder:
        empty = folder.with_name(".a.older.partial")
        empty.mkdir()
    with scratch(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_many_writers_at_once_never_meet(tmp_path):
    target, texts = tmp_path / "a.txt", [str(i) * 5000 for i in range(8)]

    def work(text: str) -> None:
        for _ in range(20):
            write(target, text)
            assert target.read_text() in texts

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, texts))
    assert names(tmp_path) == ["a.txt"]


def test_a_lock_makes_others_wait(tmp_path):
    order = []

    def work(i: int) -> None:
        with locked(tmp_path / "new"):
            order.append(i)
            time.sleep(0.01)
            order.append(i)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert order[::2] == order[1::2] and names(tmp_path / "new") == []


def test_places_where_nothing_can_be_written_are_told_before(tmp_path):
    (tmp_path / "file").write_text("mine")
    for check, place in [
        (check_target, tmp_path),
        (check_target, tmp_path / "file" / "a"),
        (check_folder, tmp_path / "file"),
    ]:
        with pytest.raises(OSError, match="pass"):
            check(place)
    with pytest.raises(OSError, match="is a folder or a device"):
        write(Path("/dev/null"))
    check_target(tmp_path / "not" / "yet" / "there")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="may not write"):
        write(tmp_path / "a.txt")
