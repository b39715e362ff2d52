"""The verbs that go the whole way: demo, pipeline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from speechmill.cli.verb import CORES, KINDS, Arguments, Verbs, recipe_arguments, recipe_of, verb
from speechmill.errors import SpeechmillError

if TYPE_CHECKING:
    from speechmill.pipeline import Also


def add_demo(verbs: Verbs) -> None:
    parser = verb(verbs, "demo", _demo, "the whole way on a synthetic corpus, in one folder", "speechmill demo demo")
    parser.add_argument("folder", type=Path, help="where everything goes")
    parser.add_argument("--calls", type=int, default=280, help="(default: %(default)s)")
    parser.add_argument("--hours", type=float, default=14.0, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    recipe_arguments(parser, "hparams/demo.yaml")


def _demo(args: Arguments) -> None:
    from speechmill.corpora.demo import make_demo_corpus
    from speechmill.pipeline import pipeline

    corpus = args.folder / "corpus"
    print(
        pipeline(
            "bizspeech", corpus, args.folder, recipe_of(args),
            make_source=lambda: make_demo_corpus(
                corpus, calls=args.calls, hours=args.hours, seed=args.seed, workers=CORES
            ),
        )
    )  # fmt: skip


def add_pipeline(verbs: Verbs) -> None:
    parser = verb(
        verbs, "pipeline", _pipeline, "the whole way with a corpus of yours, in one folder",
        "speechmill pipeline bizspeech ../shared/data/digit_calls digits --recipe hparams/digits.yaml --split valid",
    )  # fmt: skip
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="test", help="that is scored (default: %(default)s)")
    parser.add_argument(
        "--also", action="append", default=[], metavar="KIND:SOURCE[:WEIGHT]",
        help="train on this corpus too, WEIGHT passes over it in each pass over the first (default: 1)",
    )  # fmt: skip
    recipe_arguments(parser, "hparams/demo.yaml")


def _pipeline(args: Arguments) -> None:
    from speechmill.pipeline import pipeline

    also = [_also(word) for word in args.also]
    print(pipeline(args.kind, args.source, args.folder, recipe_of(args), args.split, also=also))


def _also(word: str) -> Also:
    from speechmill.pipeline import Also

    match = re.fullmatch(r"(\w+):(.+?)(?::([0-9.]+))?", word)
    if match is None or match[1] not in KINDS:
        raise SpeechmillError(
            f"--also {word}: KIND:SOURCE or KIND:SOURCE:WEIGHT was expected, KIND one of {', '.join(KINDS)}."
        )
    return Also(match[1], Path(match[2]), float(match[3] or 1))
