"""How much longer a fit takes where other programs keep all cores busy."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omib_bench._records import Record

logger = logging.getLogger("omib_spatial")

NAME = "neighbours"
_BUSY = "while True: pass"
_FIT = """
import time, warnings
warnings.simplefilter("ignore")
import omib_spatial as omib
omib.settings.n_threads = {threads}
adata = omib.datasets.simulate_tissue(2, n_spots={spots}, n_genes=500, n_healthy=1, seed={seed})
fit = omib.tl.fit
start, used = time.perf_counter(), time.process_time()
fit(adata, reference_key="healthy", library_key="library_id", max_epochs={epochs}, enable_progress_bar=False)
print(time.perf_counter() - start, time.process_time() - used)
"""


def run(
    *,
    n_spots: int = 1500,
    max_epochs: int = 6,
    seed: int = 0,
    say: Callable[[str], None] = logger.info,
) -> list[Record]:
    """Time a fit of two simulated slides alone and beside one busy process per core, each in a process of its own.

    No environment variable of OpenMP is set. Measured are the package's default and, for comparison, as many threads
    as there are cores.

    Parameters
    ----------
    n_spots
        Per slide.
    max_epochs
        Of the training.
    seed
        Of slides and training.
    say
        Takes one line per step.

    Returns
    -------
    By number of threads: ``seconds_alone``, ``seconds_beside`` and their ratio ``times_longer``; ``cpu_alone`` and
    ``cpu_beside``, seconds of all threads, which grow where threads spin and not where they merely wait.
    """
    cores = os.cpu_count() or 1
    records: list[Record] = []
    for setting, threads in (("default", None), ("all cores", cores)):
        code = _FIT.format(threads=threads, spots=n_spots, seed=seed, epochs=max_epochs)
        alone = _seconds(code)
        with _neighbours(cores):
            beside = _seconds(code)
        found = {"seconds_alone": alone[0], "seconds_beside": beside[0], "times_longer": beside[0] / alone[0]}
        found |= {"cpu_alone": alone[1], "cpu_beside": beside[1]}
        records += [Record(NAME, str(n_spots), "omib", setting, seed, key, value) for key, value in found.items()]
        say(
            f"{setting}: {alone[0]:.1f} s alone, {beside[0]:.1f} s beside {cores} busy processes, "
            f"{beside[0] / alone[0]:.2f} times; CPU {alone[1]:.1f} and {beside[1]:.1f} s"
        )
    return records


@contextmanager
def _neighbours(n: int) -> Iterator[None]:
    """``n`` processes that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _seconds(code: str) -> tuple[float, float]:
    """The two numbers that ``code`` prints last, in a process without OpenMP's variables."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "OMIB_"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=free)
    if done.returncode:
        raise RuntimeError(f"The fit failed: {done.stderr.strip()[-2000:]}")
    wall, cpu = map(float, done.stdout.split()[-2:])
    return wall, cpu
