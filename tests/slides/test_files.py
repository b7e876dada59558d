import errno

import anndata as ad
import dask
import numpy as np
import pytest
import scipy.sparse as sp

from omib_spatial.slides.files import each_file


@pytest.fixture
def slides(tmp_path):
    paths = []
    for i in range(3):
        paths.append(tmp_path / "raw" / f"slide{i}.h5ad")
        paths[-1].parent.mkdir(exist_ok=True)
        ad.AnnData(sp.csr_matrix(np.full((4, 2), i + 1, np.float32))).write_h5ad(paths[-1])
    return paths


def doubled(adata: ad.AnnData) -> ad.AnnData:
    if adata.X.max() > 2.5:
        raise KeyError("three is too much")
    adata.X = adata.X * 2
    return adata


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_every_file_is_worked_on_and_kept_under_its_name(slides, tmp_path, scheduler):
    with dask.config.set(scheduler=scheduler):
        written = each_file(doubled, slides[:2], tmp_path / "new" / "out")
    assert written == [tmp_path / "new" / "out" / path.name for path in slides[:2]]
    assert [ad.read_h5ad(path).X.max() for path in written] == [2, 4]
    assert sorted(written) == sorted((tmp_path / "new" / "out").iterdir())
    assert ad.read_h5ad(slides[0]).X.max() == 1


def test_a_file_that_is_refused_is_named_and_not_written(slides, tmp_path):
    with pytest.raises(ValueError, match="slide2.h5ad: three is too much"):
        each_file(doubled, slides[2:], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_can_be_overwritten(slides, tmp_path):
    with pytest.raises(ValueError, match="one name"):
        each_file(doubled, [slides[0], tmp_path / "other" / slides[0].name], tmp_path / "out")
    with pytest.raises(ValueError, match="another folder"):
        each_file(doubled, slides, slides[0].parent)
    out = tmp_path / "out"
    out.mkdir()
    (out / slides[1].name).write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'slide1.h5ad' already: pass another folder"):
        each_file(pytest.fail, slides[:2], out)
    (out / slides[0].name).symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"holds 'slide0.h5ad', 'slide1.h5ad' already"):
        each_file(pytest.fail, slides[:2], out)
    assert (out / slides[1].name).read_text() == "mine" and len(list(out.iterdir())) == 2


def test_a_file_that_appears_meanwhile_stays(slides, tmp_path):
    def slow(adata: ad.AnnData) -> ad.AnnData:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / slides[0].name).write_text("mine")
        return adata

    with pytest.raises(FileExistsError, match=r"slide0.h5ad could not be written.*File exists"):
        each_file(slow, slides[:1], tmp_path / "out")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_full_disk_leaves_no_half_file(slides, tmp_path, monkeypatch):
    def half(self, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", half)
    with pytest.raises(OSError, match=r"slide0.h5ad could not be written.*No space left"):
        each_file(doubled, slides[:1], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
