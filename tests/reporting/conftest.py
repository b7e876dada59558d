"""A page to look at, and a browser to look at it with."""

import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import omib_spatial as omib


@pytest.fixture(scope="session")
def fitted() -> ad.AnnData:
    """Two simulated slides; on the first the highest fifth is called, the second has no image."""
    adata = omib.datasets.simulate_tissue(2, n_spots=150, n_genes=60, n_healthy=1)
    omib.tl.fit(adata, modalities=["gene"], reference_key="healthy", library_key="library_id", max_epochs=6)
    omib.tl.call(adata, question="part")
    score, slides = adata.obs["omib_score"], adata.obs.groupby("library_id", observed=True)["omib_score"]
    high = score > slides.transform("quantile", 0.8)
    adata.obs["omib_call"] = pd.Categorical(np.where(high, "abnormal", "not called"), ["not called", "abnormal"])
    adata.obs.iloc[3, adata.obs.columns.get_loc("omib_score")] = np.nan
    adata.obs.iloc[3, adata.obs.columns.get_loc("omib_call")] = None
    del adata.uns["spatial"]["slide2"]["images"]
    omib.tl.regions(adata, min_spots=2, n_fields=9, spot_diameter_um=55)
    return adata


@pytest.fixture
def scored(fitted) -> ad.AnnData:
    return fitted.copy()


@pytest.fixture(scope="session")
def page(fitted, tmp_path_factory) -> Path:
    return omib.report(fitted, tmp_path_factory.mktemp("page") / "report.html", truth_key="region")


@pytest.fixture(scope="session")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1300,900",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    from selenium.webdriver.chrome.service import Service

    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()
