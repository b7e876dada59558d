"""Show that two versions of omib_spatial give the same results.

Run ``record`` once with each version, then ``compare``::

    git worktree add /tmp/before v0.1.0
    PYTHONPATH=/tmp/before python scripts/same_results.py record before.npz --data her2st_folder
    python scripts/same_results.py record after.npz --data her2st_folder
    python scripts/same_results.py compare before.npz after.npz --tolerance 1e-6

Only arguments that both versions have are used.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import anndata as ad
import numpy as np

QUICK = {"max_epochs": 7}
RESULTS = ("obsm/X_omib", "obs/omib_score", "obs/omib_pvalue", "obs/omib_slice_pvalue", "obs/omib_anomaly")
SUPERVISED = ("obsm/omib_probability",)


def results_of(adata: ad.AnnData, case: str, keys: tuple[str, ...] = RESULTS) -> dict[str, np.ndarray]:
    """What a fit or score wrote, by name of the case and key."""
    found = {}
    for key in keys:
        group, name = key.split("/")
        found[f"{case}/{key}"] = np.asarray(getattr(adata, group)[name], np.float64)
    return found


def tissue_cases(epochs: dict[str, int]) -> dict[str, np.ndarray]:
    """Simulated slides: the demo's fit, a slide without image, one-class, supervised, and a model from disk."""
    from omib_spatial import datasets, load, tl

    adata = datasets.simulate_tissue(6, n_healthy=4, n_spots=900 if not epochs else 200)
    options = {"reference_key": "healthy", "library_key": "library_id", **epochs}
    found = {}
    model = tl.fit(adata, modalities=["gene", "image"], **options)
    found |= results_of(adata, "demo")
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        target = adata[adata.obs["library_id"] == "slide6"].copy()
        target.uns["spatial"] = {}
        tl.score(target, load(folder), library_key="library_id")
    found |= results_of(target, "loaded, no image")
    quick = epochs or QUICK
    tl.fit(adata, modalities=["gene"], objective="svdd", **options | quick)
    found |= results_of(adata, "svdd")
    labelled = datasets.simulate_tissue(4, n_healthy=0, n_spots=200)
    tl.fit(labelled, labels_key="anomaly", donor_key="library_id", library_key="library_id", **quick)
    return found | results_of(labelled, "supervised", RESULTS + SUPERVISED)


def her2st_case(folder: Path, epochs: dict[str, int]) -> dict[str, np.ndarray]:
    """Her2st without patient B: healthy spots of the others are the reference."""
    from omib_spatial import datasets, tl

    adata = datasets.her2st(folder)
    adata.obs["reference"] = ((adata.obs["anomaly"] == 0) & (adata.obs["patient"] != "B")).to_numpy(bool)
    tl.fit(adata, reference_key="reference", library_key="section", donor_key="patient", **epochs)
    return results_of(adata, "her2st without B")


def record(file: Path, data: Path | None, quick: bool) -> None:
    """Run every case and write what it gave."""
    import omib_spatial

    print("Running", omib_spatial.__file__)
    epochs = dict(QUICK) if quick else {}
    warnings.simplefilter("ignore")
    found = tissue_cases(epochs) | ({} if data is None else her2st_case(data, epochs))
    np.savez_compressed(file, **found)


def compare(before: Path, after: Path, tolerance: float) -> bool:
    """Print the largest difference of every result; whether none exceeds the tolerance."""
    one, other = np.load(before), np.load(after)
    if set(one.files) != set(other.files):
        raise ValueError(f"The files hold different cases: {sorted(set(one.files) ^ set(other.files))}.")
    worst = 0.0
    for key in one.files:
        a, b = one[key], other[key]
        alike = np.array_equal(np.isnan(a), np.isnan(b))
        gap = float(np.nanmax(np.abs(a - b), initial=0.0)) if alike else np.inf
        worst = max(worst, gap)
        print(f"{key:45s} {str(a.shape):14s} largest difference {gap:.3g}{', bit for bit' if gap == 0 else ''}")
    print(f"Largest of all: {worst:.3g}, tolerance {tolerance:g}.")
    return worst <= tolerance


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("record")
    run.add_argument("file", type=Path)
    run.add_argument("--data", type=Path, help="Folder with the her2st sections; without it that case is left out.")
    run.add_argument("--quick", action="store_true", help="Few epochs and small slides.")
    check = commands.add_parser("compare")
    check.add_argument("before", type=Path)
    check.add_argument("after", type=Path)
    check.add_argument("--tolerance", type=float, default=0.0)
    given = parser.parse_args()
    if given.command == "record":
        record(given.file, given.data, given.quick)
    elif not compare(given.before, given.after, given.tolerance):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
