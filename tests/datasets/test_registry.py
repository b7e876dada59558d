from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from omib_spatial.datasets._registry import registry, remote_files

ENTRIES = registry()
FIELDS = {"description", "source", "licence", "citation", "size", "loader"}
OPTIONAL = {"revision", "notes", "base", "files", "steps", "collection", "assay"}
PAPER = {"her2st", "hbca_visium", "visium_breast_cancer", "cremad", "mosi"}
OWN = {"mob", "pom", "gencode_human", "gencode_mouse"}


def parses(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and "." in parts.netloc and " " not in url


def test_the_data_sets_of_the_paper_and_of_the_project_are_there():
    assert PAPER | OWN <= set(ENTRIES)
    assert sum(name.startswith("stands_") for name in ENTRIES) == 6


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_says_what_it_must(name):
    entry = ENTRIES[name]
    assert set(entry) >= FIELDS and not set(entry) - FIELDS - OPTIONAL
    assert all(isinstance(entry[field], str) and entry[field].strip() for field in FIELDS)
    assert ("files" in entry) != ("steps" in entry)
    assert all(isinstance(step, str) and step.endswith(".") for step in entry.get("steps", ()))
    assert parses(entry["source"])


@pytest.mark.parametrize("name", ENTRIES)
def test_every_file_has_an_address_a_place_and_a_digest_or_none(name):
    entry = ENTRIES[name]
    remote = remote_files(entry)
    assert len({file.path for file in remote}) == len(remote) == len(entry.get("files", ()))
    for file, given in zip(remote, entry.get("files", ()), strict=True):
        assert set(given) <= {"path", "url", "size", "sha256", "unpack"} and {"size", "sha256"} <= set(given)
        # What is not verified by a digest must at least not be changed on its way.
        assert parses(file.url) and urlsplit(file.url).scheme == "https"
        assert not file.path.startswith("/") and ".." not in file.path
        assert file.size is None or (isinstance(file.size, int) and file.size > 0)
        assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16) >= 0)


@pytest.mark.parametrize("name", ENTRIES)
def test_licence_is_the_sources_word_or_not_stated(name):
    licence = ENTRIES[name]["licence"].lower()
    assert "unknown" not in licence and not licence.startswith("none")


@pytest.mark.parametrize("name", ENTRIES)
def test_what_is_unknown_of_a_file_has_its_reason(name):
    unknown = [file for file in remote_files(ENTRIES[name]) if file.sha256 is None]
    assert not unknown or "unknown" in ENTRIES[name].get("notes", "")


@pytest.mark.parametrize("name", ENTRIES)
def test_a_collection_is_in_its_page_and_has_steps_beside_it(name):
    entry = ENTRIES[name]
    if "collection" in entry:
        assert entry["source"].endswith(f"/collections/{entry['collection']}") and len(entry["collection"]) == 36
        assert entry["steps"] and entry["assay"] and entry["loader"] == "omib_spatial.datasets.cellxgene"
    else:
        assert "assay" not in entry and "cellxgene" not in entry["source"]


def test_digests_are_those_that_squidpy_ships():
    """The one library here that ships any for files of the registry: none may be unknown, or another."""
    shipped = pytest.importorskip("squidpy").__path__[0]
    text = (Path(shipped) / "datasets" / "datasets.yaml").read_text()
    listed = [
        file for entry in ENTRIES.values() for file in remote_files(entry) if "exampledata.scverse.org" in file.url
    ]
    assert len(listed) == 3
    for file in listed:
        assert file.sha256 in text


def test_her2st_is_pinned():
    entry = ENTRIES["her2st"]
    assert entry["revision"].startswith("85df741") and len(entry["revision"]) == 40
    assert all(entry["revision"] in file.url for file in remote_files(entry))


@pytest.mark.parametrize("name", ENTRIES)
def test_the_loader_exists(name):
    module, _, function = ENTRIES[name]["loader"].rpartition(".")
    assert callable(getattr(import_module(module), function))


def test_unknown_is_none_and_the_base_goes_before_the_path():
    files = [{"path": "a/b.txt", "size": "unknown", "sha256": "unknown"}, {"path": "c", "url": "https://d.e/f"}]
    entry = {"base": "https://x.y/", "files": files}
    first, second = remote_files(entry)
    assert first == ("a/b.txt", "https://x.y/a/b.txt", None, None, False) and second.url == "https://d.e/f"
