"""Data to try the package on: simulated tissue whose anomalies are known."""

from omib_spatial.datasets._tissue import simulate_tissue

__all__ = ["simulate_tissue"]
