"""Data to try the package on: simulated tissue whose anomalies are known, and readers of annotated tissue."""

from omib_spatial.datasets._gencode import gene_positions
from omib_spatial.datasets._her2st import her2st
from omib_spatial.datasets._tissue import simulate_tissue

__all__ = ["gene_positions", "her2st", "simulate_tissue"]
