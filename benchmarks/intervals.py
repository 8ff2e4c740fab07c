"""How often intervals of a comparison miss a true difference of 0: ours, and those of a hierarchical bootstrap.

    python benchmarks/intervals.py benchmarks/results/intervals.json

60 clusters of 1 to 5 test items; the differences are normal: an effect of the seed, an effect of the cluster, and noise
of 0.5 of each item. The bootstrap draws seeds and clusters with replacement, and takes the percentiles of 1,000 means.
"""

import json
import sys
from pathlib import Path

import numpy as np

from omnisource.compare.statistics import estimate

TRIALS, DRAWS, CLUSTERS = 2000, 1000, 60
SETTINGS = [
    (3, 0.0, 0.3),
    (3, 0.03, 0.3),
    (3, 0.03, 0.1),
    (3, 0.1, 0.1),
    (3, 0.2, 0.3),
    (5, 0.01, 0.3),
    (5, 0.05, 0.1),
    (5, 0.2, 0.3),
    (10, 0.03, 0.2),
]


def bootstrap(values: np.ndarray, clusters: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the percentile interval of means over drawn seeds and clusters; values: [seeds, items]."""
    num_seeds = len(values)
    sums = np.stack([np.bincount(clusters, weights=row, minlength=CLUSTERS) for row in values])
    sizes = np.bincount(clusters, minlength=CLUSTERS)
    of_seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), DRAWS)  # [draws, seeds]
    of_clusters = rng.multinomial(CLUSTERS, np.full(CLUSTERS, 1 / CLUSTERS), DRAWS)  # [draws, clusters]
    means = ((of_seeds @ sums) * of_clusters).sum(axis=1) / (of_clusters @ sizes) / num_seeds
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def simulate(num_seeds: int, seed_effect: float, cluster_effect: float) -> dict[str, float]:
    """Returns the shares of intervals that miss 0, and their mean widths."""
    rng = np.random.default_rng(11)
    clusters = np.repeat(np.arange(CLUSTERS), rng.integers(1, 6, size=CLUSTERS))
    intervals = np.zeros((TRIALS, 2, 2))
    for trial in range(TRIALS):
        values = rng.normal(0, seed_effect, (num_seeds, 1)) + rng.normal(0, cluster_effect, CLUSTERS)[clusters]
        values = values + rng.normal(0, 0.5, (num_seeds, len(clusters)))
        ours = estimate(values, clusters)
        intervals[trial] = (ours.low, ours.high), bootstrap(values, clusters, rng)
    misses = ((intervals[..., 0] > 0) | (intervals[..., 1] < 0)).mean(axis=0)
    widths = (intervals[..., 1] - intervals[..., 0]).mean(axis=0)
    return {
        "seeds": num_seeds,
        "seed_effect": seed_effect,
        "cluster_effect": cluster_effect,
        "misses": float(misses[0]),
        "misses_of_bootstrap": float(misses[1]),
        "width": round(float(widths[0]), 4),
        "width_of_bootstrap": round(float(widths[1]), 4),
    }


if __name__ == "__main__":
    results = {"trials": TRIALS, "settings": [simulate(*setting) for setting in SETTINGS]}
    Path(sys.argv[1]).write_text(json.dumps(results, indent=2) + "\n")
