"""CELLxGENE's public interface, answered by a server of this machine in its format."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from omib_spatial.datasets import _fetch, fetch

COLLECTION = "4195ab4c-20bd-4cd3-8b3d-65601277e731"
CONTENT = {"/one.h5ad": b"1" * 1000, "/two.h5ad": b"2" * 500, "/cells.h5ad": b"3" * 10}


@pytest.fixture
def server(monkeypatch):
    """An interface with two Visium data sets and one of cells, and the files that it points to."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.server.answers.get(self.path)
            if body is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        server.answers = CONTENT | {f"/curation/v1/collections/{COLLECTION}": answer(url)}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        entry = {
            "licence": "CC BY 4.0", "source": "https://x.y", "collection": COLLECTION, "assay": "Visium",
            "api": f"{url}/curation/v1", "steps": ["Go there.", "Click."],
        }  # fmt: skip
        monkeypatch.setattr(_fetch, "registry", lambda: {"breast": entry})
        yield server
        server.shutdown()
        thread.join()


def answer(url, **change):
    """What the interface says of a collection, as far as anything here reads it, and what stands beside it."""

    def data(title, assay, name):
        assets = [{"filetype": "RDS", "filesize": 7, "url": f"{url}/no.rds"}]
        assets += [{"filetype": "H5AD", "filesize": len(CONTENT[name]), "url": f"{url}{name}"}]
        term = {"label": assay, "ontology_term_id": "EFO:0022857"}
        return {"dataset_id": name, "title": title, "assay": [term], "assets": assets, "organism": []} | change

    visium = "Visium Spatial Gene Expression V1"
    datasets = [
        data("Breast: section V03", visium, "/one.h5ad"),
        data("Breast: section V04", visium, "/two.h5ad"),
        data("All cells", "10x 3' v3", "/cells.h5ad"),
    ]
    return json.dumps({"collection_id": COLLECTION, "name": "Atlas", "datasets": datasets}).encode()


def test_the_visium_files_of_a_collection_are_downloaded_under_their_titles(server, tmp_path):
    folder = fetch("breast", cache=tmp_path, progress_bar=False)
    assert {p.name: p.read_bytes() for p in folder.glob("*.h5ad")} == {
        "Breast-section-V03.h5ad": CONTENT["/one.h5ad"],
        "Breast-section-V04.h5ad": CONTENT["/two.h5ad"],
    }


def test_two_of_one_title_are_two_files(server, tmp_path):
    server.answers[f"/curation/v1/collections/{COLLECTION}"] = answer(
        f"http://127.0.0.1:{server.server_port}", title="Section"
    )
    folder = fetch("breast", cache=tmp_path, progress_bar=False)
    assert {p.name for p in folder.glob("*.h5ad")} == {"1-Section.h5ad", "2-Section.h5ad"}


@pytest.mark.parametrize("said", [None, b"no json", b"{}", json.dumps({"datasets": []}).encode()])
def test_what_is_no_collection_is_said_with_the_steps_by_hand(server, tmp_path, said):
    del server.answers[path := f"/curation/v1/collections/{COLLECTION}"]
    if said is not None:
        server.answers[path] = said
    with pytest.raises((OSError, ValueError), match=rf"{COLLECTION}(.|\n)*1\. Go there\.\n2\. Click\."):
        fetch("breast", cache=tmp_path, progress_bar=False)
    assert not list(tmp_path.rglob("*.h5ad"))


def test_a_file_shorter_than_the_interface_says_is_no_file(server, tmp_path):
    server.answers["/two.h5ad"] = b"2" * 499
    with pytest.raises((OSError, ValueError)):
        fetch("breast", cache=tmp_path, progress_bar=False)
    assert not list(tmp_path.rglob("*V04.h5ad"))
