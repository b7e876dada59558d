"""What the OMIB paper prints (Wu et al., ICML 2025), by method and metric; it gives no spread."""

SIM = {"I": {"OMIB": {"accuracy": 0.892}}, "III": {"OMIB": {"accuracy": 0.890}}}
"""Table 2, by case."""

CREMAD = {
    name: {"accuracy": accuracy / 100}
    for name, accuracy in {
        "Concat": 53.2,
        "BiGated": 58.4,
        "MISA": 57.7,
        "DeepIB": 54.1,
        "MMIBCui": 57.3,
        "MMIBZhang": 56.7,
        "EMIB": 61.4,
        "LMIB": 58.1,
        "CMIB": 57.0,
        "OMIB": 63.6,
    }.items()
}
"""Accuracy on CREMA-D."""

MOSI = {
    name: {"acc7": acc7 / 100, "acc2": acc2 / 100, "f1": f1 / 100, "mae": mae, "corr": corr}
    for name, (acc7, acc2, f1, mae, corr) in {
        "Concat": (41.5, 81.1, 82.0, 0.797, 0.745),
        "BiGated": (41.8, 82.1, 83.2, 0.787, 0.738),
        "MISA": (42.3, 83.4, 83.6, 0.783, 0.761),
        "DeepIB": (45.3, 83.2, 83.3, 0.747, 0.785),
        "MMIBCui": (45.7, 84.3, 84.4, 0.726, 0.782),
        "MMIBZhang": (46.3, 85.0, 85.0, 0.713, 0.788),
        "DMIB": (40.4, 83.2, 83.3, 0.810, 0.784),
        "EMIB": (48.6, 85.3, 85.3, 0.711, 0.798),
        "LMIB": (45.8, 84.6, 84.6, 0.732, 0.790),
        "CMIB": (48.2, 85.2, 85.2, 0.728, 0.793),
        "OMIB": (48.6, 86.9, 87.1, 0.709, 0.802),
    }.items()
}
"""CMU-MOSI."""

TISSUE = {
    name: dict(zip(("A1", "B1", "C1", "D1", "mean"), auroc, strict=True))
    for name, auroc in {
        "Concat": (0.537, 0.866, 0.638, 0.555, 0.649),
        "MMIBCui": (0.623, 0.818, 0.765, 0.501, 0.677),
        "MMIBZhang": (0.626, 0.817, 0.662, 0.604, 0.677),
        "DMIB": (0.423, 0.849, 0.743, 0.642, 0.664),
        "LMIB": (0.598, 0.770, 0.659, 0.652, 0.670),
        "OMIB": (0.728, 0.903, 0.743, 0.640, 0.754),
    }.items()
}
"""Table 5: AUROC on her2st, by section, of models of healthy Visium."""

TISSUE_F1 = {
    name: dict(zip(("A1", "B1", "C1", "D1", "mean"), f1, strict=True))
    for name, f1 in {
        "Concat": (0.884, 0.654, 0.750, 0.509, 0.699),
        "MMIBCui": (0.894, 0.559, 0.822, 0.465, 0.685),
        "MMIBZhang": (0.897, 0.583, 0.783, 0.524, 0.697),
        "DMIB": (0.865, 0.607, 0.827, 0.540, 0.710),
        "LMIB": (0.891, 0.483, 0.786, 0.564, 0.681),
        "OMIB": (0.904, 0.663, 0.820, 0.561, 0.737),
    }.items()
}
"""Table 5: its F1, which flags as many spots as there are true anomalies."""
