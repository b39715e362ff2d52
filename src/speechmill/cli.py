"""The command line: verbs in the order of the pipeline; no logic. A verb imports the heavy modules that it needs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.workers import cores

Arguments = argparse.Namespace
_CORES = cores()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit status: 0, 2 for bad input (one line on standard error), 130 when interrupted."""
    parsed = parse_arguments(arguments)
    try:
        status: int | None = parsed.run(parsed)
    except SpeechmillError as error:
        print(f"speechmill {parsed.verb}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has gone (head, less): nobody is left to tell. Python would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"speechmill {parsed.verb}: interrupted; run the same command to go on.", file=sys.stderr)
        return 130
    return status or 0


def parse_arguments(arguments: Sequence[str] | None = None) -> Arguments:
    """Parse a command; leaves the program with status 2 and the usage where it is not one.

    argparse gives an optional list of positionals up when an option stands before it, as in `train RECIPE --run DIR
    key.path=value`: what it leaves over is taken up here.
    """
    parser = build_parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(parsed, "overrides") and all("=" in word and not word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.overrides = [*parsed.overrides, *rest]
    return parsed


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="speechmill",
        description="From long recordings with transcripts to a trained, scored speech recognizer.",
        epilog="Verbs are in the order of the pipeline; `speechmill VERB --help` has an example of each.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (
        _add_demo, _add_pipeline, _add_demo_corpus, _add_import, _add_select, _add_shard, _add_verify, _add_tokenizer,
        _add_train, _add_evaluate, _add_transcribe, _add_compare, _add_inspect,
    ):  # fmt: skip
        add(verbs)
    return parser


Verbs = argparse._SubParsersAction  # the type that add_subparsers returns has no public name


def _verb(
    verbs: Verbs,  # type: ignore[type-arg]
    name: str,
    run: Callable[[Arguments], int | None],
    about: str,
    example: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=about, epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def _recipe_arguments(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument("--recipe", type=Path, default=default, help="YAML recipe (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings that replace the recipe's")


def _add_demo(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(verbs, "demo", _demo, "the whole way on a synthetic corpus, in one folder", "speechmill demo demo")
    parser.add_argument("folder", type=Path, help="where everything goes")
    parser.add_argument("--calls", type=int, default=280)
    parser.add_argument("--hours", type=float, default=14.0)
    parser.add_argument("--seed", type=int, default=0)
    _recipe_arguments(parser, "hparams/demo.yaml")


def _demo(args: Arguments) -> None:
    from speechmill.corpora.demo import make_demo_corpus
    from speechmill.pipeline import pipeline

    corpus = args.folder / "corpus"
    print(
        pipeline(
            "bizspeech", corpus, args.folder, _recipe(args),
            make_source=lambda: make_demo_corpus(
                corpus, calls=args.calls, hours=args.hours, seed=args.seed, workers=_CORES
            ),
        )
    )  # fmt: skip


def _add_pipeline(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "pipeline", _pipeline, "the whole way with a corpus of yours, in one folder",
        "speechmill pipeline bizspeech ../shared/data/digit_calls digits --recipe hparams/digits.yaml --split valid",
    )  # fmt: skip
    parser.add_argument("kind", choices=_kinds())
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="test", help="that is scored (default: %(default)s)")
    _recipe_arguments(parser, "hparams/demo.yaml")


def _pipeline(args: Arguments) -> None:
    from speechmill.pipeline import pipeline

    print(pipeline(args.kind, args.source, args.folder, _recipe(args), args.split))


def _add_demo_corpus(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "demo-corpus", _demo_corpus, "synthesise earnings-call-like recordings with eSpeak NG",
        "speechmill demo-corpus mine/corpus --calls 12 --hours 0.5",
    )  # fmt: skip
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=280)
    parser.add_argument("--hours", type=float, default=14.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=_CORES)


def _demo_corpus(args: Arguments) -> None:
    from speechmill.corpora.demo import make_demo_corpus

    summary = make_demo_corpus(args.folder, calls=args.calls, hours=args.hours, seed=args.seed, workers=args.processes)
    print(f"{args.folder}: {summary}")


def _add_import(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "import", _import, "a corpus -> a manifest, one row per utterance",
        "speechmill import bizspeech mine/corpus mine/corpus.parquet",
    )  # fmt: skip
    parser.add_argument("kind", choices=_kinds())
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


def _add_select(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
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
    parser.add_argument("--include", metavar="FILE", help="these calls first, then others; an id a line")
    parser.add_argument("--include-only", metavar="FILE", help="these calls only")
    parser.add_argument("--exclude", metavar="FILE", help="not these calls")
    parser.add_argument("--disjoint", action="append", metavar="COLUMN", help="no value of it in two splits (speaker)")
    parser.add_argument("--seed", type=int)
    _recipe_arguments(parser)


def _select(args: Arguments) -> None:
    from speechmill.select import select_manifest

    names = (
        "hours", "native_share", "qa_share", "ceo_only", "min_seconds", "max_seconds", "include", "include_only",
        "exclude", "disjoint", "seed",
    )  # fmt: skip
    flags = [f"select.{name}={_yaml(getattr(args, name))}" for name in names if getattr(args, name) is not None]
    print(select_manifest(args.manifest, args.out, _recipe(args, flags).select).text())


def _add_shard(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "shard", _shard, "audio -> TAR shards of FLAC and JSON, with an index",
        "speechmill shard mine/selected.parquet mine/shards --recipe hparams/demo.yaml",
    )  # fmt: skip
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="the folder of shards to write")
    parser.add_argument("--processes", type=int, default=_CORES, help="(default: %(default)s)")
    _recipe_arguments(parser)


def _shard(args: Arguments) -> None:
    from speechmill.shards.write import shard_manifest

    report = shard_manifest(args.manifest, args.out, _recipe(args).shard, args.processes)
    done = " (already there, nothing to do)" if report.already_whole else ""
    print(f"{args.out}: {report.shards} shards, {report.utterances} utterances, {report.hours:.2f} h{done}")
    if report.dropped:
        print(f"dropped: {report.dropped} utterances; listed with reasons in {args.out / 'dropped.tsv'}")


def _add_verify(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "verify", _verify, "check shards: TARs against the index, every utterance decoded",
        "speechmill verify mine/shards",
    )  # fmt: skip
    parser.add_argument("shards", type=Path)


def _verify(args: Arguments) -> int:
    from speechmill.shards.verify import verify

    problems = verify(args.shards)
    for problem in problems:
        print(problem)
    print(f"{args.shards}: {len(problems)} problems" if problems else f"{args.shards}: whole")
    return 1 if problems else 0


def _add_tokenizer(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "tokenizer", _tokenizer, "train a SentencePiece tokenizer on the train split's text",
        "speechmill tokenizer mine/selected.parquet mine/tokenizer.model --recipe hparams/demo.yaml",
    )  # fmt: skip
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="the model to write")
    _recipe_arguments(parser)


def _tokenizer(args: Arguments) -> None:
    from speechmill.tokenizer import train_tokenizer

    tokenizer, found = train_tokenizer(args.manifest, args.out, _recipe(args).tokenizer)
    done = " (already there, nothing to do)" if found else ""
    print(f"{args.out}: {len(tokenizer)} pieces, fingerprint {tokenizer.fingerprint}{done}")


def _add_train(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "train", _train, "make or continue a run folder",
        "speechmill train hparams/demo.yaml --run mine/run data.shards=mine/shards data.tokenizer=mine/tokenizer.model",
    )  # fmt: skip
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--run", dest="folder", type=Path, required=True, help="the run folder")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings that replace the recipe's")


def _train(args: Arguments) -> int:
    from speechmill.train.loop import train

    report = train(_recipe(args), args.folder)
    best = f", best validation WER {report.best_wer:.2%} at {report.best_update}" if report.best_wer is not None else ""
    if not report.finished:
        print(f"{args.folder}: stopped by {report.stopped_by} after {report.updates} updates and saved; "
              f"run the same command to go on")  # fmt: skip
        return 130
    done = " (already there, nothing to do)" if report.already_whole else ""
    print(f"{args.folder}: {report.updates} updates{best}{done}")
    return 0


def _add_evaluate(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "evaluate", _evaluate, "score a run: WER, WER-P, CER, CER-P, by group",
        "speechmill evaluate mine/run --split test",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("--on", metavar="SHARDS|MANIFEST", help="default: the shards that the run was trained on")
    parser.add_argument("--split", help="default: test of the run's own shards; all rows of another set")
    parser.add_argument("--checkpoint", default="best", help="best, last or a number of updates (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the scores there too; - prints them alone")
    parser.add_argument(
        "overrides", nargs="*", metavar="search.key=value", help="another search, e.g. search.kind=greedy"
    )


def _evaluate(args: Arguments) -> None:
    from speechmill.artefact import write_json
    from speechmill.evaluate import evaluate
    from speechmill.score import scores_table

    search = _search(args.folder, args.overrides)
    done = evaluate(args.folder, on=args.on, split=args.split, checkpoint=args.checkpoint, search=search)
    if args.json == "-":
        print(json.dumps(done.scores, ensure_ascii=False, indent=1))
        return
    print(f"{args.folder} ({done.scores['checkpoint']}) on {done.name}\n{scores_table(done.scores)}\n{done.written}")
    if args.json:
        write_json(Path(args.json), done.scores)


def _add_transcribe(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "transcribe", _transcribe, "any audio file -> text, with times",
        "speechmill transcribe mine/run mine/corpus/MEDIA/*/recording.mp3",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--format", choices=("text", "json", "srt", "vtt"), default="text")
    parser.add_argument("--checkpoint", default="best", help="best, last or a number of updates (default: %(default)s)")


def _transcribe(args: Arguments) -> int:
    from speechmill.evaluate import open_recognizer
    from speechmill.train.runlog import read_config
    from speechmill.transcribe import check_format, render, transcribe

    check_format(args.format, len(args.files))
    recognizing = open_recognizer(args.folder, read_config(args.folder), args.checkpoint)
    done, failed = [], False
    for file in args.files:
        try:
            done.append(transcribe(recognizing, file))
        except SpeechmillError as error:  # one bad file does not lose the others
            print(f"speechmill {args.verb}: {error}", file=sys.stderr)
            failed = True
        else:
            if args.format != "json":
                print(render(done[-1:], args.format), flush=True)
    if args.format == "json" and done:
        print(render(done, args.format))
    return 2 if failed else 0


def _add_compare(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "compare", _compare, "runs -> tables, learning curves, a page",
        "speechmill compare mine/run --out mine/report",
    )  # fmt: skip
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, help="a folder, or a file that ends in .html, .md or .xlsx")


def _compare(args: Arguments) -> None:
    from speechmill.compare import compare

    comparison = compare(args.runs, args.out)
    print(comparison.text)
    for path in comparison.written:
        print(path)


def _add_inspect(verbs: Verbs) -> None:  # type: ignore[type-arg]
    parser = _verb(
        verbs, "inspect", _inspect, "hours, utterances, speakers, lengths of a manifest or shards",
        "speechmill inspect mine/selected.parquet --png mine/lengths.png",
    )  # fmt: skip
    parser.add_argument("data", type=Path, metavar="MANIFEST|SHARDS")
    parser.add_argument("--png", type=Path, help="write the histogram of utterance lengths there")


def _inspect(args: Arguments) -> None:
    from speechmill.inspection import inspect_data

    print(inspect_data(args.data, args.png))


def _kinds() -> tuple[str, ...]:
    return ("bizspeech",)  # corpora.KINDS, without its imports: --help answers at once


def _recipe(args: Arguments, flags: Sequence[str] = ()):  # type: ignore[no-untyped-def]
    from speechmill.config import Recipe, load_recipe

    if args.recipe is None:
        if args.overrides or flags:
            return load_recipe(Path(os.devnull), [*flags, *args.overrides])
        return Recipe()
    return load_recipe(args.recipe, [*flags, *args.overrides])


def _search(run: Path, overrides: Sequence[str]):  # type: ignore[no-untyped-def]
    from speechmill.train.runlog import read_config

    if not overrides:
        return None
    for override in overrides:
        if not override.startswith("search."):
            raise SpeechmillError(f"{override!r}: evaluate takes only settings of the search, e.g. search.kind=greedy.")
    from speechmill.config import override_recipe

    return override_recipe(read_config(run), overrides).search


def _yaml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML, and quotes what YAML would take for something else
