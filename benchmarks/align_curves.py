"""Part `confidence` of `benchmarks.align`: what its confidence is worth, as numbers and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.align_tally import curve, reliability

Judged = Sequence[Sequence[float]]


def part(groups: Mapping[str, Judged], out: Path | None) -> dict[str, Any]:
    """Reliability and the curve of hours kept against word errors, of each group of kept sentences and of all."""
    together = {**groups, "all": [one for judged in groups.values() for one in judged]}
    found = {
        name: {"reliability": reliability(judged), "curve": curve(judged)}
        for name, judged in together.items()
        if judged
    }
    if out and found:
        picture(found, out.with_suffix(".svg"))
    return found


def picture(found: Mapping[str, Any], path: Path) -> None:
    """Two panels: confidence against the share of right words; hours kept against word errors."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "speechmill"  # so that the same figures give the same file
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    left.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for name, one in found.items():
        rows = one["reliability"]
        left.plot(
            [(row["from"] + row["to"]) / 2 for row in rows], [row["right_words"] for row in rows], "o-", label=name
        )
        points = one["curve"]
        right.plot([point["hours"] for point in points], [100 * point["word_errors"] for point in points], label=name)
    left.set(xlabel="confidence", ylabel="share of right words", xlim=(0.3, 1.01), ylim=(0.3, 1.02))
    right.set(xlabel="hours kept", ylabel="word errors in the kept text, %", ylim=(0, None))
    left.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
