import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import anndata as ad
import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import settings
from scipy.spatial import cKDTree

from omib_spatial import tl
from omib_spatial.core import Mine
from omib_spatial.datasets import simulate_tissue
from omib_spatial.detector import beta
from omib_spatial.modalities.signatures import PROLIFERATION
from omib_spatial.slides.gene_table import gene_table

ARMS = {"1q": 1.5, "5p": 1.6, "8q": 1.8, "13q": 0.5, "16q": 0.55, "17q": 1.5}
"""Gained and lost arms of the planted clone, and what becomes of their genes' rates."""


FUZZ = int(os.environ.get("OMIB_FUZZ", "1"))
"""How many times as many cases every property test generates; ``make fuzz`` sets it."""
settings.register_profile("untimed", settings.default, deadline=None)  # Beside other work a case may take any time.
settings.load_profile("untimed")
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps what ``@settings`` says; there is no public way to multiply it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Generate more cases, and other ones every time, where that is asked for."""
    seen = set[int]()
    for item in items:
        test = getattr(item, "obj", None)
        test = getattr(test, "__func__", test)
        if FUZZ > 1 and hasattr(test, "hypothesis") and id(test) not in seen:
            seen.add(id(test))
            own = getattr(test, _SETTINGS, settings.default)
            more = settings(own, max_examples=own.max_examples * FUZZ, derandomize=False)
            setattr(test, _SETTINGS, more)


def pytest_report_collectionfinish(items: list[pytest.Item]) -> str:
    """How many cases hypothesis generates at most."""
    properties = [item for item in items if hasattr(getattr(item, "obj", None), "hypothesis")]
    cases = sum(getattr(item.obj, _SETTINGS, settings.default).max_examples for item in properties)  # type: ignore[attr-defined]
    return f"{cases:,} generated cases at most in {len(properties)} property tests"


@pytest.fixture(scope="session", autouse=True)
def short_critic() -> Iterator[None]:
    """The bound on beta is estimated in a quarter of its steps: they are more than half of a small fit's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beta, "Mine", partial(Mine, steps=100))
        yield


def _plain(value: Any) -> Any:
    if isinstance(value, ad.AnnData):
        slots = (value.obsm, value.varm, value.layers, value.obsp, value.uns)
        return [_plain(part) for part in (value.X, value.obs, value.var, *slots)]
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    # Sparse matrices remember what was found out about them.
    return [value.shape, value.data, value.indices, value.indptr] if sp.issparse(value) else value


@pytest.fixture(scope="session")
def content() -> Callable[[ad.AnnData], str]:
    """A digest of all that an AnnData in memory holds: another one where anything in it is another."""
    return lambda adata: joblib.hash(_plain(adata))


def _grow_clone(share: float, seed: int, side: int, n_genes: int, dividing: float) -> ad.AnnData:
    shared, rng = np.random.default_rng(0), np.random.default_rng(seed)
    table = gene_table("human")
    alone = (table["symbol"] != "") & ~table["symbol"].duplicated(keep=False) & table["chromosome"].str.isdigit()
    table = table[alone]
    divides = table["symbol"].isin(PROLIFERATION)
    rest = table[~divides].sample(n_genes - int(divides.sum()), random_state=0)
    genes = pd.concat([table[divides], rest]).sample(frac=1, random_state=1)
    xy = np.argwhere(np.ones((side, side))).astype(float)
    n = len(xy)
    # A disc, off the centre.
    far = np.hypot(*(xy - side * np.array([0.35, 0.4])).T)
    clone = np.argsort(np.argsort(far, kind="stable")) < share * n
    waves = [np.cos(xy @ rng.normal(size=(2, 3)) * 3 / side + rng.uniform(0, 6, 3)).sum(1) for _ in range(3)]
    loads = shared.normal(scale=0.4, size=(3, n_genes)) * (shared.random((3, n_genes)) < 0.15)
    rates = np.exp(shared.normal(scale=1.2, size=n_genes) + np.stack(waves, 1) @ loads)
    arm = (genes["chromosome"] + genes["arm"]).to_numpy()
    for name, factor in ARMS.items():
        rates[np.ix_(clone, arm == name)] *= factor
    rates[np.ix_(clone, genes["symbol"].isin(PROLIFERATION))] *= dividing
    rates *= (4000 * np.exp(rng.normal(scale=0.3, size=n)) / rates.sum(1))[:, None]
    return ad.AnnData(
        sp.csr_matrix(rng.poisson(rates), dtype=np.float32),
        obs=pd.DataFrame({"clone": clone}, index=[f"spot{i}" for i in range(n)]),
        var=pd.DataFrame(index=genes["symbol"].to_numpy(object)),
        obsm={"spatial": 100 * xy},
    )


@pytest.fixture(scope="session")
def planted() -> Callable[..., ad.AnnData]:
    """Makes a slide of human genes by symbol: smooth programmes, and a disc of tumour that has gained and lost arms.

    ``planted(share=.35, seed=0, side=20, n_genes=1500, dividing=3.0)``: share of spots in the disc, marked in
    ``obs["clone"]``; spots along each side; how much more of the dividing cells' genes the disc has. Slides of other
    seeds are of the same tissue. Each call returns a copy.
    """

    @cache
    def grown(share: float, seed: int, side: int, n_genes: int, dividing: float) -> ad.AnnData:
        return _grow_clone(share, seed, side, n_genes, dividing)

    def make(
        share: float = 0.35, seed: int = 0, side: int = 20, n_genes: int = 1500, dividing: float = 3.0
    ) -> ad.AnnData:
        return grown(share, seed, side, n_genes, dividing).copy()

    return make


def _with_image(adata: ad.AnnData, dark: np.ndarray, seed: int = 0) -> ad.AnnData:
    """A picture of pink tissue, in which nuclei are crowded around the spots that are ``dark``."""
    rng, xy = np.random.default_rng(seed), adata.obsm["spatial"]
    scale = 16 / np.median(cKDTree(xy).query(xy, 2)[0][:, 1])
    places = (xy - xy.min(0)) * scale + 32
    width, height = (places.max(0) + 32).astype(int)
    image = np.full((height, width, 3), 245, np.uint8)
    image[16:-16, 16:-16] = (225, 150, 190)
    for (x, y), crowded in zip(places, dark, strict=True):
        for dx, dy in rng.integers(-8, 8, (12 if crowded else 3, 2)):
            image[int(y + dy) : int(y + dy) + 3, int(x + dx) : int(x + dx) + 3] = (90, 50, 140)
    adata.obsm["spatial"] = places
    scales = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 9.0}
    adata.uns["spatial"] = {"slide": {"images": {"hires": image}, "scalefactors": scales}}
    return adata


@pytest.fixture(scope="session")
def with_image() -> Callable[..., ad.AnnData]:
    """``with_image(adata, dark, seed=0)`` gives a slide of ``planted`` a picture with nuclei around ``dark`` spots."""
    return _with_image


def _grow_kinds(n_kinds: int, modality: str) -> ad.AnnData:
    adata = simulate_tissue(4, n_healthy=2, n_spots=200, n_genes=300, image=False, effect=0.0)
    rng = np.random.default_rng(0)
    counts, xy = adata.X.toarray(), adata.obsm["spatial"]
    # Genes of middling expression: raising the highest would lower the share of all others.
    usual = np.argsort(-counts.mean(0))[60:120]
    sets = np.split(rng.permutation(usual)[:24], 2)
    adata.obs["kind"], extra = 0, rng.normal(size=(adata.n_obs, 3))
    for library in ("slide3", "slide4"):
        own = np.flatnonzero(adata.obs["library_id"] == library)
        low, high = xy[own].min(0), xy[own].max(0)
        for number, share in enumerate((0.25, 0.75)):
            far = np.hypot(*(xy[own] - (low + (high - low) * [share, 0.5])).T)
            blob = own[np.argsort(far)[:30]]
            kind = number % n_kinds
            if modality == "gene":
                counts[np.ix_(blob, sets[kind])] = rng.poisson(8 * counts[np.ix_(blob, sets[kind])] + 25)
            else:
                extra[blob, kind] += 4
            adata.obs.loc[adata.obs_names[blob], "kind"] = kind + 1
    adata.X, adata.obsm["X_extra"] = sp.csr_matrix(counts.astype(np.float32)), extra
    adata.uns["planted"] = {str(kind + 1): list(adata.var_names[sets[kind]]) for kind in range(n_kinds)}
    config = replace(tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
    options = {"config": config, "max_epochs": 3, "enable_progress_bar": False, "accelerator": "cpu"}
    model = tl.fit(adata, reference_key="healthy", library_key="library_id", modalities=["gene", "X_extra"], **options)
    tl.call(adata, question="part")
    adata.uns["model"] = model
    return adata


@pytest.fixture(scope="session")
def kinds() -> Callable[..., tuple[ad.AnnData, tl.AnomalyModel]]:
    """Four slides that were fitted on and called, two of them with two discs of 30 abnormal spots each, and the model.

    ``kinds(n_kinds=2, modality="gene")``: whether the discs of a slide differ in the same way from healthy tissue or in
    two ways, marked in ``obs["kind"]``; and in what: twelve genes (``uns["planted"]`` by kind), or a column of
    ``obsm["X_extra"]``. Each call returns a copy.
    """

    @cache
    def grown(n_kinds: int, modality: str) -> ad.AnnData:
        return _grow_kinds(n_kinds, modality)

    def make(n_kinds: int = 2, modality: str = "gene") -> tuple[ad.AnnData, tl.AnomalyModel]:
        made = grown(n_kinds, modality)
        model = made.uns.pop("model")
        copied, made.uns["model"] = made.copy(), model
        return copied, model

    return make
