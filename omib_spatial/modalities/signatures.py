"""What is taken for abnormal where nobody says what is healthy: genes that are higher in it, or lower."""

from collections.abc import Mapping, Sequence

import numpy as np

Signatures = Mapping[str, tuple[float, Sequence[str]]]
"""By name, a weight and genes: a positive weight says that they are higher in abnormal tissue."""
PROLIFERATION = (
    *("MKI67", "TOP2A", "PCNA", "TYMS", "STMN1", "TUBA1B", "TUBB", "TUBB5", "H2AFZ", "H2AZ1", "HMGB1", "HMGB2"),
    *("UBE2C", "CDK1", "CCNB1"),
)
"""Genes of dividing cells, of which carcinomas of any organ have more than the tissue around them."""
EPITHELIUM = ("EPCAM", "KRT8", "KRT18", "KRT19", "CDH1", "CLDN4", "CLDN3", "KRT7", "KRT20")
"""Genes of epithelial cells, which carcinomas descend from."""
DIVIDING: Signatures = {"proliferation": (1.0, PROLIFERATION)}
CARCINOMA: Sequence[Signatures] = (DIVIDING, {**DIVIDING, "epithelium": (1.0, EPITHELIUM)})
"""What is taken for abnormal unless the user says otherwise, in human and mouse: dividing cells, or where halves of the
evidence do not agree on these, dividing cells of an epithelium."""


def checked_signatures(signatures: Signatures) -> Signatures:
    """The same with plain numbers and lists; TypeError or ValueError where they are no signatures."""
    if not isinstance(signatures, Mapping):
        raise TypeError(
            f"signatures= maps a name to a weight and genes, as {{'mine': (1.0, [...])}}; got {signatures!r}."
        )
    found: dict[str, tuple[float, list[str]]] = {}
    for name, value in signatures.items():
        pair = value if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2 else (None, None)
        weight, genes = pair
        if not isinstance(weight, int | float | np.number) or isinstance(genes, str) or not isinstance(genes, Sequence):
            raise TypeError(f"signatures[{name!r}] is a weight and a list of genes, as (1.0, [...]); got {value!r}.")
        if not np.isfinite(weight) or weight == 0:
            raise ValueError(
                f"signatures[{name!r}] has the weight {weight}: positive for abnormal, negative for healthy."
            )
        found[name] = float(weight), [str(gene) for gene in genes]
    return found
