"""The verbs about recordings and transcripts: demo-corpus, import, align, select, inspect."""

from __future__ import annotations

from pathlib import Path

from speechmill.cli.verb import CORES, KINDS, Arguments, Verbs, as_yaml, recipe_arguments, recipe_of, verb


def add_demo_corpus(verbs: Verbs) -> None:
    parser = verb(
        verbs, "demo-corpus", _demo_corpus, "synthesise earnings-call-like recordings with eSpeak NG",
        "speechmill demo-corpus mine/corpus --calls 12 --hours 0.5",
    )  # fmt: skip
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=280)
    parser.add_argument("--hours", type=float, default=14.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=CORES)


def _demo_corpus(args: Arguments) -> None:
    from speechmill.corpora.demo import make_demo_corpus

    summary = make_demo_corpus(args.folder, calls=args.calls, hours=args.hours, seed=args.seed, workers=args.processes)
    print(f"{args.folder}: {summary}")


def add_import(verbs: Verbs) -> None:
    parser = verb(
        verbs, "import", _import, "a corpus -> a manifest, one row per utterance",
        "speechmill import bizspeech mine/corpus mine/corpus.parquet",
    )  # fmt: skip
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("source", type=Path, help="the corpus's folder")
    parser.add_argument("out", type=Path, help="the manifest to write, .parquet")
    parser.add_argument("--include", type=Path, metavar="FILE", help="only these calls, an id a line")
    parser.add_argument("--exclude", type=Path, metavar="FILE", help="not these calls")
    parser.add_argument("--min-seconds", type=float, default=0.2)
    parser.add_argument("--max-seconds", type=float, default=120.0)


def _import(args: Arguments) -> None:
    from speechmill.corpora import import_corpus
    from speechmill.corpora.base import Limits
    from speechmill.manifest import read_ids

    imported = import_corpus(
        args.kind, args.source, args.out,
        include=set(read_ids(args.include)) if args.include else None,
        exclude=set(read_ids(args.exclude)) if args.exclude else None,
        limits=Limits(args.min_seconds, args.max_seconds),
    )  # fmt: skip
    print(imported.text())


def add_align(verbs: Verbs) -> None:
    parser = verb(
        verbs, "align", _align, "recordings with untimed, unreliable transcripts -> timed utterances and an account",
        "speechmill align mine/corpus.parquet mine/aligned.parquet --aligner pocketsphinx",
    )  # fmt: skip
    parser.add_argument("manifest", type=Path, help="rows in the order of the transcript; their times are not used")
    parser.add_argument("out", type=Path, help="the manifest to write, .parquet")
    parser.add_argument("--aligner", default="pocketsphinx", metavar="NAME", help="pocketsphinx, ctc:RUN or mms")
    parser.add_argument("--worker", default="1/1", metavar="I/N", help="this process takes every Nth recording, from I")
    parser.add_argument("--processes", type=int, default=CORES, help="(default: %(default)s)")
    recipe_arguments(parser)


def _align(args: Arguments) -> None:
    from speechmill.align.run import align_manifest, parse_worker

    worker = parse_worker(args.worker)
    settings = recipe_of(args).align
    print(align_manifest(args.manifest, args.out, settings, args.aligner, worker, args.processes).text())


def add_select(verbs: Verbs) -> None:
    parser = verb(
        verbs, "select", _select, "which utterances, which split",
        "speechmill select mine/corpus.parquet mine/selected.parquet --recipe hparams/demo.yaml",
    )  # fmt: skip
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="the manifest to write, .parquet")
    parser.add_argument("--hours", type=float, help="of training audio")
    parser.add_argument("--native-share", type=float, help="of the training seconds, 0 to 1")
    parser.add_argument("--qa-share", type=float, help="of the training seconds, 0 to 1")
    parser.add_argument("--ceo-only", action="store_true", default=None)
    parser.add_argument("--min-seconds", type=float)
    parser.add_argument("--max-seconds", type=float)
    parser.add_argument("--min-confidence", type=float, help="of aligned utterances, 0 to 1")
    parser.add_argument("--include", metavar="FILE", help="these calls first, then others; an id a line")
    parser.add_argument("--include-only", metavar="FILE", help="these calls only")
    parser.add_argument("--exclude", metavar="FILE", help="not these calls")
    parser.add_argument("--disjoint", action="append", metavar="COLUMN", help="no value of it in two splits (speaker)")
    parser.add_argument("--seed", type=int)
    recipe_arguments(parser)


def _select(args: Arguments) -> None:
    from speechmill.select import select_manifest

    names = (
        "hours", "native_share", "qa_share", "ceo_only", "min_seconds", "max_seconds", "min_confidence", "include",
        "include_only", "exclude", "disjoint", "seed",
    )  # fmt: skip
    flags = [f"select.{name}={as_yaml(getattr(args, name))}" for name in names if getattr(args, name) is not None]
    print(select_manifest(args.manifest, args.out, recipe_of(args, flags).select).text())


def add_inspect(verbs: Verbs) -> None:
    parser = verb(
        verbs, "inspect", _inspect, "hours, utterances, speakers, lengths of a manifest or shards",
        "speechmill inspect mine/selected.parquet --png mine/lengths.png",
    )  # fmt: skip
    parser.add_argument("data", type=Path, metavar="MANIFEST|SHARDS")
    parser.add_argument("--png", type=Path, help="write the histogram of utterance lengths there")


def _inspect(args: Arguments) -> None:
    from speechmill.inspection import inspect_data

    print(inspect_data(args.data, args.png))
