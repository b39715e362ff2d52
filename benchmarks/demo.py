"""Put what `make demo` left beside the other results: where it was made, the scores, the seconds of each stage.

make demo && python -m benchmarks.demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from speechmill.artefact import read_json, write_json

RESULT = Path(__file__).parent / "results" / "demo.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="that the demo made (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    scores = read_json(args.folder / "scores.json")
    write_json(args.out, {
        "command": "make demo",
        "environment": read_json(args.folder / "run" / "environment.json"),
        **scores,
        "seconds_in_all": round(sum(scores["seconds"].values()), 1),
    })  # fmt: skip


if __name__ == "__main__":
    main()
