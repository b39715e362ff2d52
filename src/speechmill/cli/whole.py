"""The verbs that go the whole way: demo, pipeline."""

from __future__ import annotations

from pathlib import Path

from speechmill.cli.verb import CORES, KINDS, Arguments, Verbs, recipe_arguments, recipe_of, verb


def add_demo(verbs: Verbs) -> None:
    parser = verb(verbs, "demo", _demo, "the whole way on a synthetic corpus, in one folder", "speechmill demo demo")
    parser.add_argument("folder", type=Path, help="where everything goes")
    parser.add_argument("--calls", type=int, default=280)
    parser.add_argument("--hours", type=float, default=14.0)
    parser.add_argument("--seed", type=int, default=0)
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
    recipe_arguments(parser, "hparams/demo.yaml")


def _pipeline(args: Arguments) -> None:
    from speechmill.pipeline import pipeline

    print(pipeline(args.kind, args.source, args.folder, recipe_of(args), args.split))
