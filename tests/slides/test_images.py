import os
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import tifffile
from PIL import Image

from omib_spatial.slides import images
from omib_spatial.slides.images import OpenSlidePixels, image_scale, image_source, open_image

PIXELS = np.random.default_rng(0).integers(0, 256, (130, 170, 3), dtype=np.uint8)
PLACES = [
    np.s_[:1, :],
    np.s_[10:75, 60:170],
    np.s_[129:130, 0:3],
    np.s_[:, 169:170],
    np.s_[5:5, 0:4],
    np.s_[::7, 3:90:2],
]


def write(path, planar=False, **options):
    options = {"photometric": "rgb", "tile": (32, 48)} | options
    if planar:
        tifffile.imwrite(path, PIXELS.transpose(2, 0, 1), planarconfig="separate", **options)
    else:
        tifffile.imwrite(path, PIXELS, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.tif", {}),
        ("a.tiff", {"tile": None, "rowsperstrip": 16}),
        ("a.tif", {"compression": "zlib"}),
        ("a.svs", {"compression": "zlib"}),
        ("a.ome.tif", {"metadata": {"axes": "YXS"}}),
        ("a.tif", {"planar": True}),
        ("a.ome.tif", {"planar": True, "metadata": {"axes": "CYX"}}),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_any_region_of_a_tiff_is_that_of_the_array(tmp_path, name, options, as_text):
    path = write(tmp_path / name, **options)
    image = open_image(str(path) if as_text else path)
    assert (image.shape, image.dtype, image.ndim) == (PIXELS.shape, np.uint8, 3)
    for place in PLACES:
        np.testing.assert_array_equal(image[place], PIXELS[place])


def test_a_pyramid_gives_its_largest_level(tmp_path):
    with tifffile.TiffWriter(tmp_path / "p.ome.tif") as tiff:
        tiff.write(PIXELS, subifds=1, photometric="rgb", tile=(32, 32), metadata={"axes": "YXS"})
        tiff.write(PIXELS[::2, ::2], subfiletype=1, photometric="rgb", tile=(32, 32))
    np.testing.assert_array_equal(open_image(tmp_path / "p.ome.tif")[:, :], PIXELS)


def test_openslide_gives_the_same_regions(tmp_path):
    pytest.importorskip("openslide", reason="openslide is an optional extra")
    image = OpenSlidePixels(write(tmp_path / "a.tif", tile=(64, 64)))
    assert image.shape == (130, 170, 4)
    for place in PLACES:
        np.testing.assert_array_equal(image[place][..., :3], PIXELS[place])


def test_without_openslide_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.ndpi").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ImportError, match=r"pip install 'omib-spatial\[openslide\]'"):
        open_image(tmp_path / "a.ndpi")


def test_png_and_arrays_in_memory(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_image(tmp_path / "a.png"), PIXELS)
    assert open_image(PIXELS) is PIXELS


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "I;16"])
def test_every_colour_mode_shows_what_a_viewer_shows(mode, tmp_path):
    picture = Image.fromarray(PIXELS // 128 * 255)
    if mode == "I;16":
        deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        stored, expected = Image.fromarray(deep), np.stack([deep // 257] * 3, 2)
    else:
        stored = picture.convert(mode)
        expected = np.asarray(stored.convert("RGBA" if mode.endswith("A") else "RGB"))
    np.testing.assert_array_equal(open_image(stored), expected)
    stored.save(
        path := tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), **({"quality": 100} if mode == "CMYK" else {})
    )
    found = open_image(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < (20 if mode == "CMYK" else 1e-9)


@pytest.mark.parametrize(
    "kind", ["tiles.tif", "strips.ome.tif", "one_channel.tif", "grey.png", "lazy", "lazy, one channel"]
)
def test_a_grey_image_has_three_equal_channels_wherever_it_is(tmp_path, kind):
    grey = PIXELS[..., 0]
    source = tmp_path / kind
    if kind.startswith("lazy"):
        source = da.from_array(grey if kind == "lazy" else grey[..., None], chunks=64)
    elif kind == "grey.png":
        Image.fromarray(grey).save(source)
    else:
        one = grey[..., None] if kind.startswith("one") else grey
        tile = (32, 48) if kind.startswith("tiles") else None
        tifffile.imwrite(source, one, photometric="minisblack", tile=tile)
    image = open_image(source)
    assert (image.shape, image.ndim) == (PIXELS.shape, 3)
    for place in PLACES:
        np.testing.assert_array_equal(image[place], np.repeat(grey[place][..., None], 3, 2))


@pytest.mark.parametrize("chunks", [(50, 50, 3), (130, 170, 1), ((7, 60, 63), (100, 20, 50), 3)])
def test_a_lazy_array_is_read_by_tiles_and_once(chunks, monkeypatch):
    monkeypatch.setattr(images, "_LAZY", 64)
    computed = []

    def seen(block):
        computed.append(block.shape)
        return block

    lazy = open_image(da.from_array(PIXELS, chunks=chunks).map_blocks(seen, dtype=np.uint8, meta=PIXELS[:0]))
    assert (lazy.shape, lazy.dtype, lazy.ndim) == (PIXELS.shape, np.uint8, 3) and not computed
    for place in (*PLACES, np.s_[:, :]):
        np.testing.assert_array_equal(lazy[place], PIXELS[place])
    computed.clear()
    assert (lazy[::3, 5:] == PIXELS[::3, 5:]).all() and not computed


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "a.tif")
    first = open_image(path)
    assert open_image(path) is first
    tifffile.imwrite(path, 255 - PIXELS, photometric="rgb")
    os.utime(path, ns=(1, 1))
    second = open_image(path)
    np.testing.assert_array_equal(second[:, :], 255 - PIXELS)
    assert second.identity != first.identity


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist: correct the path"):
        open_image(tmp_path / "none.tif")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"no image that can be read: one of \['.bif'"):
        open_image(tmp_path / "a.txt")
    tifffile.imwrite(tmp_path / "stack.tif", PIXELS, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(ValueError, match=r"axes ZYX; an RGB image \(YXS or SYX\) or a grey one"):
        open_image(tmp_path / "stack.tif")


def test_where_an_image_and_its_scale_are_found():
    entry = {"images": {"hires": 1}, "metadata": {"source_image_path": "x.tif"}}
    assert [image_source(entry, key) for key in ("hires", "lowres", "fullres")] == [1, None, "x.tif"]
    assert image_source({"images": {"fullres": 2}} | entry["metadata"], "fullres") == 2
    factors = {"tissue_hires_scalef": 0.2}
    assert [image_scale(factors, key) for key in ("hires", "lowres", "fullres")] == [0.2, None, 1.0]
    assert image_scale({"tissue_fullres_scalef": 0.5}, "fullres") == 0.5


def test_memory_does_not_depend_on_the_size_of_the_file(tmp_path):
    """A region of a slide of 1.2 GB, of which hardly anything is on disk, in a process that may not have 1 GB more."""
    path = tmp_path / "large.tif"
    blank = np.zeros((1, 512, 512, 3), np.uint8)
    tiles = (blank[0] for _ in range(40 * 40))
    tifffile.imwrite(
        path, tiles, shape=(20_480, 20_480, 3), dtype=np.uint8, tile=(512, 512), photometric="rgb", compression="zlib"
    )
    code = f"""
import resource
from omib_spatial.slides.images import open_image
image = open_image({str(path)!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for k in range(20):
    image[1000 * k : 1000 * k + 300, 700 * k : 700 * k + 300]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) < 200_000  # kB
