"""A downloader for pooch that goes on where an earlier download stopped."""

import os
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from omib_spatial._atomic import replacing

_CHUNK = 1 << 16
_TIMEOUT = 30  # seconds without a byte


class ResumingDownloader:
    """Download a file over HTTP, going on from the bytes that an interrupted download left.

    They lie beside the target in ``{target}.part``, and what the server calls that version of the file (its entity
    tag, or the time of its last change) in ``{target}.part.version``. Only the same version is continued; a server
    that cannot continue sends all of it again.

    Parameters
    ----------
    target
        File that pooch is to make.
    size
        Its bytes, if known.
    progress_bar
        Draw a progress bar.
    """

    def __init__(self, target: Path, *, size: int | None = None, progress_bar: bool = True) -> None:
        self.target, self.size, self.progress_bar = target, size, progress_bar
        self.part = target.with_name(target.name + ".part")
        self.version = target.with_name(target.name + ".part.version")

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download ``url`` to ``output_file``.

        Raises
        ------
        OSError
            The server does not answer, refuses, or stops early.
        ValueError
            The file has another size than the known one.
        """
        import requests

        self.part.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.part, self.version):
            if path.is_symlink():  # Nobody's bytes but these are written to.
                path.unlink()
        try:
            total = self._receive(url)
        except requests.RequestException as error:
            raise OSError(f"{url} broke off ({error}): {self._resume()}") from error
        if total is not None and (got := self._got()) < total:
            raise OSError(f"{url} stopped after {got} of {total} bytes: {self._resume()}")
        self._check_size(url)
        os.replace(self.part, output_file)
        self.version.unlink(missing_ok=True)

    def _receive(self, url: str) -> int | None:
        """Append to the part what is missing; the size of the whole file if the server says it."""
        import requests

        have = self._got() if self.version.is_file() else 0
        headers = {"Accept-Encoding": "identity"}  # Ranges and sizes count the bytes of the file itself.
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.version.read_text()}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                # The part is as long as the file, or longer, so its version is in doubt.
                self.version.unlink()
                return self._receive(url)
            if not answer.ok:
                raise OSError(f"{url} answers {answer.status_code} ({answer.reason}): check the address.")
            goes_on = have > 0 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if not goes_on:
                # Before the new version is noted: old bytes under it would be continued.
                self.part.unlink(missing_ok=True)
            self._note_version(answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
            length = answer.headers.get("Content-Length")
            total = None if length is None else int(length) + (have if goes_on else 0)
            self._write(answer.iter_content(_CHUNK), have if goes_on else 0, total)
            return total

    def _write(self, chunks: Any, have: int, total: int | None) -> None:
        bar = tqdm(
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=self.target.name,
            disable=not self.progress_bar,
        )
        with bar, self.part.open("ab" if have else "wb") as out:
            for chunk in chunks:
                out.write(chunk)
                bar.update(len(chunk))

    def _note_version(self, tag: str | None, changed: str | None) -> None:
        """Keep what `If-Range` needs; a weak tag does not promise the same bytes."""
        version = tag if tag is not None and not tag.startswith("W/") else changed
        if version is None:
            self.version.unlink(missing_ok=True)
        else:
            with replacing(self.version) as partial:
                partial.write_text(version)

    def _check_size(self, url: str) -> None:
        if self.size is not None and (got := self._got()) != self.size:
            self.part.unlink()
            self.version.unlink(missing_ok=True)
            raise ValueError(f"{url} has {got} bytes in place of {self.size}, so it is another file: it was deleted.")

    def _got(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _resume(self) -> str:
        return f"{self._got()} bytes are kept, run the same again to go on."
