import logging
import os
import subprocess
import sys

import pytest

import omib_spatial as omib
from omib_spatial._settings import RESULT, Settings


@pytest.fixture(autouse=True)
def as_before():
    yield
    omib.settings.reset()


def test_settings_are_checked_when_they_are_set():
    for name, wrong in (
        ("verbosity", 3),
        ("verbosity", True),
        ("figure_format", "doc"),
        ("figure_dpi", 5),
        ("n_threads", 0),
        ("n_threads", "many"),
        ("cache", 3),
    ):
        before = getattr(omib.settings, name)
        with pytest.raises(ValueError, match=f"settings.{name} is"):
            setattr(omib.settings, name, wrong)
        assert getattr(omib.settings, name) == before
    with pytest.raises(AttributeError, match="no setting 'verbose': known are verbosity"):
        omib.settings.verbose = 1
    omib.settings.figure_format = ".PDF"
    omib.settings.n_threads = None
    assert omib.settings.figure_format == "pdf"


def test_verbosity_is_the_level_of_the_log():
    logger = logging.getLogger("omib_spatial")
    for verbosity, shown in ((0, [False, False]), (1, [True, False]), (2, [True, True])):
        omib.settings.verbosity = verbosity
        assert [logger.isEnabledFor(level) for level in (RESULT, logging.INFO)] == shown


def test_the_environment_overrides_defaults(monkeypatch):
    monkeypatch.setenv("OMIB_VERBOSITY", "2")
    monkeypatch.setenv("OMIB_N_THREADS", "3")
    monkeypatch.setenv("OMIB_FIGURE_FORMAT", "")
    own = Settings()
    own.reset()
    assert (own.verbosity, own.n_threads, own.figure_format) == (2, 3, "png")
    monkeypatch.setenv("OMIB_FIGURE_DPI", "sharp")
    with pytest.raises(ValueError, match="environment variable OMIB_FIGURE_DPI is 'sharp'"):
        own.reset()


@pytest.mark.parametrize("verbosity", [0, 1])
def test_a_first_fit_speaks_of_the_users_matters_alone(verbosity):
    code = (
        "import omib_spatial as omib\n"
        "adata = omib.datasets.simulate_tissue(2, n_spots=100, n_genes=60, n_healthy=1)\n"
        "model = omib.tl.fit(adata, reference_key='healthy', library_key='library_id', max_epochs=6)\n"
        "omib.tl.score(adata, model)\n"
    )
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment | {"OMIB_VERBOSITY": str(verbosity)},
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr + done.stdout
    lines = [line.split("\r")[-1].strip() for line in done.stderr.strip().split("\n") if line.strip()]
    if verbosity == 0:
        assert lines == [] and done.stdout == ""
    else:
        bars = [line for line in lines if "%|" in line and "(" not in line]
        # Where nobody looks on, a bar is a line at its start and one at its end.
        assert all(bar.startswith("training:") for bar in bars) and bars[-1].startswith("training: 100%")
        assert sum("   0%" in bar for bar in bars) <= 1
        told = [line for line in lines if "spots called" in line]
        assert sum(line.startswith("Slide 'slide1': ") for line in told) == 2  # of fit, and of score
        assert len(told) == 6 and not [line for line in lines if line and line not in told and "%|" not in line]
