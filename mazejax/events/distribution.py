"""`Distribution`: a histogram on the host, as writers and figures take it.

Bins were counted in the compiled loop; here they become quantiles and what a reader
looks at. NumPy only.
"""

from typing import NamedTuple

import numpy as np


class Distribution(NamedTuple):
    """How often values fell into each bin; of a vector, for every entry of it."""

    counts: np.ndarray
    """float64, [bins] or [D, bins] of a vector with D entries."""
    edges: np.ndarray
    """Ascending bounds of the bins, float64 [bins + 1]; of categories 0, 1, ... the half numbers
    around them. What lies outside is counted in the first and last bin."""
    plot: str = "histogram"
    """How it is best looked at: `histogram`, `relative_bars` (share of each category),
    `binary_bars` (share of ones by entry) or `violin` (one for every entry)."""

    @property
    def total(self) -> float:
        """Values counted, of a vector its entries too."""
        return float(self.counts.sum())

    def quantile(self, share: float) -> np.ndarray:
        """Where that share of the values lies below, [] or [D]; within a bin they lie evenly.

        nan of nothing.
        """
        rows = self.counts.reshape(-1, self.counts.shape[-1])
        found = [_quantile(row, self.edges, share) for row in rows]
        return np.asarray(found, np.float64).reshape(self.counts.shape[:-1])


def _quantile(counts: np.ndarray, edges: np.ndarray, share: float) -> float:
    below = np.concatenate([[0.0], np.cumsum(counts)])
    if below[-1] == 0:
        return float("nan")
    wanted = share * below[-1]
    bin_ = min(int(np.searchsorted(below, wanted, side="left")), len(counts))
    bin_ = max(bin_ - 1, 0)
    inside = (wanted - below[bin_]) / max(counts[bin_], 1e-300)
    return float(edges[bin_] + np.clip(inside, 0.0, 1.0) * (edges[bin_ + 1] - edges[bin_]))
