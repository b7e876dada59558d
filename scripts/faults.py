"""Kill work at random moments, and count what is lost or taken for whole without being so.

Children are forked and killed (SIGKILL) after a random part of the time that the work takes undisturbed. After each
kill everything that was there is read, and the work is done again::

    python scripts/faults.py --kills 40
    python scripts/faults.py --kills 10 save score

docs/reliability.md has what was counted. On Linux and macOS.
"""

import argparse
import hashlib
import os
import random
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anndata as ad
import numpy as np
import torch

import omib_spatial as omib
from omib_spatial.cli import app
from omib_spatial.datasets import _fetch
from omib_spatial.datasets._registry import RemoteFile

CONTENT = np.random.default_rng(0).bytes(2**24)
QUICK = {
    "all_healthy": True,
    "library_key": "library_id",
    "modalities": ["gene"],
    "max_epochs": 6,
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=2, beta=0.05),
    "enable_progress_bar": False,
    "accelerator": "cpu",
}


@dataclass
class Case:
    """Work that is killed: how it starts anew, what it does, what must be true after a kill, and after a second run."""

    prepare: Callable[[], None]
    work: Callable[[], None]
    survived: Callable[[], None]
    finished: Callable[[], None]


def forked(work: Callable[[], None], seconds: float | None = None) -> bool:
    """Do ``work`` in a child, killed after ``seconds`` if it is still at work; whether it ended by itself."""
    child = os.fork()
    if child == 0:
        try:
            terminal, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            work()
        except BaseException as error:  # noqa: BLE001  A child must not go on with its parent's work.
            os.write(terminal, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def slides(seed: int = 0) -> ad.AnnData:
    """Two small slides."""
    return omib.datasets.simulate_tissue(2, n_healthy=2, n_spots=120, n_genes=100, image=False, seed=seed)


def digest(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(folder: Path) -> list[Path]:
    """Temporary names in a folder."""
    return [path for path in folder.rglob("*") if path.name.endswith(".partial")]


def command(*words: object) -> None:
    """Run the command line."""
    app([str(word) for word in words], standalone_mode=False)


def fit_case(folder: Path) -> Case:
    """A fit that is resumed ends at the weights of one that was not stopped."""
    state = folder / "run"

    def fit(resume: Path) -> np.ndarray:
        adata = slides()
        omib.tl.fit(adata, resume=resume, **QUICK)
        return adata.obs["omib_score"].to_numpy()

    def whole() -> None:
        np.save(folder / "whole.npy", fit(folder / "other"))

    def again() -> None:
        np.testing.assert_array_equal(fit(state), np.load(folder / "whole.npy"))

    def prepare() -> None:
        if not (folder / "whole.npy").exists():
            assert forked(whole)
        for path in sorted(state.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()

    def work() -> None:
        fit(state)

    return Case(prepare, work, lambda: None, again)


def save_case(folder: Path) -> Case:
    """A model that is replaced again and again is one of the two."""
    target, models = folder / "model", [folder / "one", folder / "two"]

    def prepare() -> None:
        if not models[0].exists():
            for seed, path in enumerate(models):
                assert forked(lambda seed=seed, path=path: omib.tl.fit(slides(), seed=seed, **QUICK).save(path))
            omib.load(models[0]).save(target)

    def work() -> None:
        both = [omib.load(path) for path in models]
        until = time.monotonic() + 2
        while time.monotonic() < until:
            for model in both:
                model.save(target)

    def survived() -> None:
        found = omib.load(target).network.state_dict()
        both = [omib.load(path).network.state_dict() for path in models]
        assert any(all(torch.equal(found[key], model[key]) for key in found) for model in both)

    def finished() -> None:
        omib.load(models[0]).save(target)
        survived()
        assert not leftovers(target) and len(list(target.iterdir())) == 2

    return Case(prepare, work, survived, finished)


def score_case(folder: Path) -> Case:
    """Slides that are scored in place are there before, or scored."""
    path, model, plain = folder / "slides.h5ad", folder / "model", folder / "plain.h5ad"

    def prepare() -> None:
        if not model.exists():
            assert forked(lambda: omib.tl.fit(slides(), **QUICK).save(model))
            slides(1).write_h5ad(plain)
        path.write_bytes(plain.read_bytes())

    def work() -> None:
        command("score", path, model, "--out", path, "--overwrite")

    def survived() -> None:
        assert digest(path) == digest(plain) or ad.read_h5ad(path).obs["omib_score"].notna().all()
        omib.load(model)

    def finished() -> None:
        work()
        assert ad.read_h5ad(path).obs["omib_score"].notna().all() and not leftovers(folder)

    return Case(prepare, work, survived, finished)


def files_case(folder: Path) -> Case:
    """Of many slides, every file that is there is whole, and those that were read are as they were."""
    model, out = folder / "model", folder / "out"
    sources = [folder / f"slide{i}.h5ad" for i in range(3)]

    def prepare() -> None:
        if not model.exists():
            assert forked(lambda: omib.tl.fit(slides(), **QUICK).save(model))
            for seed, path in enumerate(sources):
                slides(seed).write_h5ad(path)
        for path in out.glob("*.h5ad"):
            path.unlink()

    def work() -> None:
        import dask

        with dask.config.set(scheduler="synchronous"):
            left = [path for path in sources if not (out / path.name).exists()]
            omib.tl.score_files(left, model, out, library_key="library_id")

    known: dict[Path, str] = {}

    def survived() -> None:
        for path in sources:
            assert known.setdefault(path, digest(path)) == digest(path)
        for path in out.glob("*.h5ad"):
            assert ad.read_h5ad(path).obs["omib_score"].notna().all()

    def finished() -> None:
        work()
        survived()
        assert len(list(out.glob("*.h5ad"))) == len(sources) and not leftovers(out)

    return Case(prepare, work, survived, finished)


def report_case(folder: Path) -> Case:
    """The page of a report is a whole file."""
    scored, out = folder / "scored.h5ad", folder / "report"

    def prepare() -> None:
        def fit() -> None:
            adata = slides()
            omib.tl.fit(adata, **QUICK)
            adata.write_h5ad(scored)

        if not scored.exists():
            assert forked(fit)

    def work() -> None:
        command("report", scored, "--out", out / "report.html")

    def survived() -> None:
        page = out / "report.html"
        assert not page.exists() or page.read_text().rstrip().endswith("</html>")
        assert "omib_score" in ad.read_h5ad(scored).obs

    def finished() -> None:
        work()
        survived()
        assert not leftovers(out) and (out / "report.html").read_text().rstrip().endswith("</html>")

    return Case(prepare, work, survived, finished)


class Handler(BaseHTTPRequestHandler):
    """Serves `CONTENT` slowly."""

    def do_GET(self) -> None:
        """Answer in pieces, with a pause after each."""
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.send_header("ETag", '"one"')
        self.end_headers()
        for first in range(start, len(CONTENT), 2**19):
            try:
                self.wfile.write(CONTENT[first : first + 2**19])
            except OSError:
                return
            time.sleep(0.01)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served() -> Iterator[str]:
    """Address of a server on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def fetch_case(folder: Path, url: str) -> Case:
    """A file that is there is the whole one."""
    entry = {"toy": {"base": f"{url}/", "files": [{"path": "a.bin"}]}}
    _fetch.registry = lambda: entry  # type: ignore[assignment]
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    _fetch.remote_files = lambda _: [  # type: ignore[assignment]
        RemoteFile("a.bin", f"{url}/a.bin", size=len(CONTENT), sha256=sha256)
    ]

    def prepare() -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                path.unlink()

    def work() -> None:
        omib.datasets.fetch("toy", cache=folder, progress_bar=False)

    def survived() -> None:
        path = folder / "toy" / "a.bin"
        assert not path.exists() or path.read_bytes() == CONTENT

    def finished() -> None:
        work()
        assert (folder / "toy" / "a.bin").read_bytes() == CONTENT

    return Case(prepare, work, survived, finished)


def count(case: Case, kills: int, rng: random.Random) -> tuple[int, int, int, float]:
    """Kills that met the work, faults after a kill, faults after the next run, and seconds of undisturbed work."""
    case.prepare()
    started = time.monotonic()
    assert forked(case.work)
    duration = time.monotonic() - started
    met, broken, left = 0, 0, 0
    for _ in range(kills):
        case.prepare()
        met += not forked(case.work, rng.uniform(0, duration))
        broken += not forked(case.survived)
        left += not forked(case.finished)
    return met, broken, left, duration


def main() -> None:
    """Parse arguments, count, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    makers = {
        "fit": fit_case,
        "save": save_case,
        "score": score_case,
        "files": files_case,
        "report": report_case,
        "fetch": fetch_case,
    }
    parser.add_argument("cases", nargs="*", choices=[[], *makers], help=f"some of {', '.join(makers)}; default all")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print("| work | seconds | kills | at work | broken or lost | not mended by the next run |")
    print("|---|---|---|---|---|---|")
    with served() as url:
        for name in given.cases or makers:
            with tempfile.TemporaryDirectory() as folder:
                case = makers[name](Path(folder), *([url] if name == "fetch" else []))
                met, broken, left, seconds = count(case, given.kills, random.Random(given.seed))
            print(f"| {name} | {seconds:.1f} | {given.kills} | {met} | {broken} | {left} |", flush=True)


if __name__ == "__main__":
    main()
