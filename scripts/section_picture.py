"""The picture of the README: H&E, score and regions of section B4, by a model of the other patients' healthy tissue.

python scripts/section_picture.py HER2ST_FOLDER docs/img/b4.png
"""

import sys

import matplotlib.pyplot as plt

import omib_spatial as omib


def main(folder: str, target: str) -> None:
    """Fit on all patients but B, score B4, draw."""
    reference = omib.datasets.her2st(folder, sections=["A1", "C1", "C2", "C3", "D1", "E1", "G2"])
    reference.obs["healthy"] = reference.obs["anomaly"] == 0
    options = {"reference_key": "healthy", "library_key": "section", "donor_key": "patient"}
    model = omib.tl.fit(reference, enable_progress_bar=False, **options)
    section = omib.datasets.her2st(folder, sections=["B4"])
    omib.tl.score(section, model)
    omib.tl.call(section, question="part")
    omib.tl.regions(section, spot_diameter_um=100)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.3), layout="constrained")
    omib.pl.anomaly_map(section, color="image", ax=axes[0], show=False)
    omib.pl.anomaly_map(section, color="score", ax=axes[1], show=False)
    omib.pl.regions(section, ax=axes[2], show=False)
    for ax, title in zip(axes, ("H&E", "Score", "Regions"), strict=True):
        ax.set(title=title, ylabel="", xlabel="")
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
