"""The verbs about recordings and transcripts: demo-corpus, import, align, export-manifest, overlap, select, inspect."""

from __future__ import annotations

import sys
from pathlib import Path

from speechmill.cli.verb import CORES, KINDS, Arguments, Verbs, as_yaml, recipe_arguments, recipe_of, verb

_SHOWN = 20  # recordings whose sums do not hold, on the terminal


def add_demo_corpus(verbs: Verbs) -> None:
    parser = verb(
        verbs, "demo-corpus", _demo_corpus, "synthesise earnings-call-like recordings with eSpeak NG",
        "speechmill demo-corpus mine/corpus --calls 12 --hours 0.5",
    )  # fmt: skip
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=280, help="(default: %(default)s)")
    parser.add_argument("--hours", type=float, default=14.0, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--script", choices=("earnings", "digits"), default="earnings", help="(default: %(default)s)")
    parser.add_argument("--processes", type=int, default=CORES)


def _demo_corpus(args: Arguments) -> None:
    from speechmill.corpora.demo import make_demo_corpus

    summary = make_demo_corpus(
        args.folder, calls=args.calls, hours=args.hours, seed=args.seed, workers=args.processes, script=args.script
    )
    print(f"{args.folder}: {summary}")


def add_import(verbs: Verbs) -> None:
    parser = verb(
        verbs, "import", _import, "a corpus -> a manifest, one row per utterance",
        "speechmill import bizspeech mine/corpus mine/corpus.parquet",
    )  # fmt: skip
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("source", type=Path, help="the corpus's folder, or a table or manifest of it")
    parser.add_argument("out", type=Path, help="the manifest to write, .parquet")
    parser.add_argument("--include", type=Path, metavar="FILE", help="only these calls, an id a line")
    parser.add_argument("--exclude", type=Path, metavar="FILE", help="not these calls")
    parser.add_argument("--min-seconds", type=float, default=0.2, help="shorter rows drop (default: %(default)s)")
    parser.add_argument("--max-seconds", type=float, default=120.0, help="longer rows drop (default: %(default)s)")
    parser.add_argument(
        "--ignore-times", action="store_true",
        help="for `align`: no row drops for its times or its length; their order is the transcript's",
    )  # fmt: skip


def _import(args: Arguments) -> None:
    from speechmill.corpora import import_corpus
    from speechmill.corpora.base import Limits
    from speechmill.manifest import read_ids

    imported = import_corpus(
        args.kind, args.source, args.out,
        include=set(read_ids(args.include)) if args.include else None,
        exclude=set(read_ids(args.exclude)) if args.exclude else None,
        limits=Limits(args.min_seconds, args.max_seconds, args.ignore_times),
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
    parser.add_argument(
        "--worker", default="0/1", metavar="I/N",
        help="take every Nth recording alone (I from 0 or from 1); the last to end merges",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=CORES, help="(default: %(default)s)")
    recipe_arguments(parser)


def _align(args: Arguments) -> None:
    from speechmill.align.run import align_manifest
    from speechmill.workers import Worker

    worker = Worker.parse(args.worker)
    settings = recipe_of(args).align
    report = align_manifest(args.manifest, args.out, settings, args.aligner, worker, args.processes)
    print(report.text())
    if report.again:  # no reason to stop what comes behind: they are rejected, and accounted for
        print(f"speechmill align: {report.again} recordings failed; the same command tries them again", file=sys.stderr)


def add_export(verbs: Verbs) -> None:
    parser = verb(
        verbs, "export-manifest", _export, "a manifest -> NeMo's JSON lines or a Lhotse cut set",
        "speechmill export-manifest mine/selected.parquet mine/train_cuts.jsonl.gz --format lhotse --split train",
    )  # fmt: skip
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="the file to write; compressed where it ends in .gz")
    parser.add_argument("--format", choices=("nemo", "lhotse"), required=True)
    parser.add_argument("--split", help="only this one (default: all rows)")


def _export(args: Arguments) -> None:
    from speechmill.corpora.export import export_manifest

    rows = export_manifest(args.manifest, args.out, args.format, args.split)
    print(f"{args.out}: {rows} utterances")


def add_overlap(verbs: Verbs) -> None:
    parser = verb(
        verbs, "overlap", _overlap, "what two manifests share: the same audio, the same text",
        "speechmill overlap mine/train.parquet spgispeech:SPGI/val --json mine/overlap.json\n\n"
        "exit status: 0 where nothing in common was found, 1 where something was, 2 for bad input",
    )  # fmt: skip
    parser.add_argument("a", metavar="A", help="a manifest, or a corpus as KIND:DIR")
    parser.add_argument("b", metavar="B", help="a manifest, or a corpus as KIND:DIR")
    parser.add_argument("--by", choices=("audio", "text", "both"), default="both", help="(default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all pairs there too; - prints them alone")


def _overlap(args: Arguments) -> int:
    import json

    from speechmill.artefact import write_json
    from speechmill.overlap import KINDS, overlap

    found = overlap(args.a, args.b, KINDS if args.by == "both" else (args.by,))
    if args.json == "-":
        print(json.dumps(found.as_dict(), ensure_ascii=False, indent=1))
    else:
        print(found.text())
        if args.json:
            write_json(Path(args.json), found.as_dict())
    return 1 if found.found else 0


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
    parser.add_argument("--ceo-only", action="store_true", default=None, help="what chief executives say")
    parser.add_argument("--min-seconds", type=float, help="of an utterance")
    parser.add_argument("--max-seconds", type=float, help="of an utterance")
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
    parser.add_argument("--by", action="append", default=[], metavar="COLUMN", help="a line for each value; repeatable")
    parser.add_argument("--png", type=Path, help="write the histogram of utterance lengths there")
    parser.add_argument(
        "--ledger", action="store_true", help="what became of every second; status 1 where the sums do not hold"
    )


def _inspect(args: Arguments) -> int:
    from speechmill.inspection import inspect_data, inspect_ledger

    if args.ledger:
        text, wrong = inspect_ledger(args.data)
        print(text)
        for line in wrong[:_SHOWN]:
            print(line)
        print(f"{len(wrong)} recordings do not add up" if wrong else "every second is accounted for")
        return 1 if wrong else 0
    print(inspect_data(args.data, args.png, args.by))
    return 0
