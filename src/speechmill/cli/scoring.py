"""The verbs that judge a recognizer: evaluate, transcribe, score, compare."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from speechmill.cli.verb import SCORE_FORMATS, Arguments, Verbs, verb
from speechmill.errors import SpeechmillError


def add_evaluate(verbs: Verbs) -> None:
    parser = verb(
        verbs, "evaluate", _evaluate, "score a run: WER, WER-P, CER, CER-P, by group",
        "speechmill evaluate mine/run --split test",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument(
        "--on", metavar="SHARDS|MANIFEST|KIND:DIR",
        help="default: the shards that the run was trained on; librispeech:DIR/test-clean reads a corpus",
    )  # fmt: skip
    parser.add_argument("--split", help="default: test of the run's own shards; all rows of another set")
    parser.add_argument("--checkpoint", default="best", help="best, last or a number of updates (default: %(default)s)")
    _average_argument(parser)
    parser.add_argument("--processes", type=int, default=1, help="that recognize (default: %(default)s)")
    parser.add_argument(
        "--by", action="append", default=[], metavar="COLUMN",
        help="group by this column of the manifest too, beside native and session; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--block", metavar="COLUMN", help="drawn for the intervals (default: call, else speaker, else recording)"
    )
    parser.add_argument(
        "--cache", metavar="DIR", default="",
        help="read shards through this folder of a local disk (default: the run's data.cache, for URLs)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the scores there too; - prints them alone")
    parser.add_argument(
        "overrides", nargs="*", metavar="search.key=value", help="another search, e.g. search.kind=greedy"
    )


def _average_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--average", metavar="best-K|last-K", help="the mean of the weights of K checkpoints, e.g. best-3"
    )


def _evaluate(args: Arguments) -> None:
    from speechmill.artefact import write_json
    from speechmill.evaluate import evaluate
    from speechmill.group import rank
    from speechmill.score import scores_table
    from speechmill.score.terminal import findings, worst_lines

    search = _search(args.folder, args.overrides)
    done = evaluate(
        args.folder, on=args.on, split=args.split, checkpoint=args.checkpoint, search=search, by=args.by,
        processes=args.processes, average=args.average, cache=args.cache, block=args.block,
    )  # fmt: skip
    if rank():
        return
    for note in done.scores.get("notes", []):
        print(f"note: {note}", file=sys.stderr)
    if args.json == "-":
        print(json.dumps(done.scores, ensure_ascii=False, indent=1))
        return
    print(f"{args.folder} ({done.scores['checkpoint']}) on {done.name}\n{scores_table(done.scores)}")
    print(
        "\n".join(
            [
                *findings(done.scores),
                *worst_lines(done.scores),
                str(done.written),
                str(done.written.with_suffix(".html")),
            ]
        )
    )
    if args.json:
        write_json(Path(args.json), done.scores)


def add_transcribe(verbs: Verbs) -> None:
    parser = verb(
        verbs, "transcribe", _transcribe, "any audio file -> text, with times",
        "speechmill transcribe mine/run mine/corpus/MEDIA/*/recording.mp3",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument(
        "--format", choices=("text", "json", "srt", "vtt"), default="text",
        help="text: a line a file, begun with its name where there are several; json: a list, an item a file; "
        "srt, vtt: of one file (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--checkpoint", default="best", help="best, last or a number of updates (default: %(default)s)")
    _average_argument(parser)


def _transcribe(args: Arguments) -> int:
    from speechmill.evaluate import open_recognizer
    from speechmill.train.runlog import read_config
    from speechmill.transcribe import check_format, render, transcribe

    check_format(args.format, len(args.files))
    recognizing = open_recognizer(args.folder, read_config(args.folder), args.average or args.checkpoint)
    done, failed = [], False
    for file in args.files:
        try:
            done.append(transcribe(recognizing, file))
        except SpeechmillError as error:  # one bad file does not lose the others
            print(f"speechmill {args.verb}: {error}", file=sys.stderr)
            failed = True
        else:
            if args.format != "json":
                named = f"{file}: " if len(args.files) > 1 else ""  # as text: of one file it is the text alone
                print(f"{named}{render(done[-1:], args.format)}", flush=True)
    if args.format == "json" and done:
        print(render(done, args.format))
    return 2 if failed else 0


def add_score(verbs: Verbs) -> None:
    parser = verb(
        verbs, "score", _score, "score any recognizer's output: files or folders of transcripts",
        "speechmill score references hypotheses --alternatives normalizations --html scores.html",
    )  # fmt: skip
    parser.add_argument("reference", type=Path, metavar="REF", help="a file, or a folder of files matched by name")
    parser.add_argument("hypothesis", type=Path, metavar="HYP")
    parser.add_argument("--alternatives", type=Path, metavar="DIR", help="Rev's NAME.norm.json for .nlp references")
    parser.add_argument(
        "--normalize", metavar="NAME",
        help="thesis, whisper, none or steps, e.g. lower,punctuation (default: thesis; none for .nlp references)",
    )  # fmt: skip
    for side in ("ref", "hyp"):
        parser.add_argument(f"--{side}-format", choices=SCORE_FORMATS, help="where the format is guessed wrong")
    parser.add_argument("--groups", type=Path, metavar="FILE", help="a table with ids and columns to group by")
    parser.add_argument("--by", action="append", default=[], metavar="COLUMN", help="of --groups or of REF; repeatable")
    parser.add_argument(
        "--block", metavar="COLUMN", help="drawn for the intervals (default: call, else speaker, else recording)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default: %(default)s)")
    parser.add_argument("--compare", type=Path, metavar="HYP2", help="another recognizer's output of the same")
    parser.add_argument("--json", metavar="FILE", help="write the scores there; - prints them alone")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each recording and group there")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the aligned texts there")


def _score(args: Arguments) -> None:
    from speechmill.artefact import write_json
    from speechmill.score.report import comparison, report
    from speechmill.score.scoring import score
    from speechmill.score.terminal import report_text

    _check_score(args)
    settings = {
        "alternatives": args.alternatives, "normalize": args.normalize, "groups": args.groups,
        "by": args.by, "block": args.block,
        "reference_format": args.ref_format, "hypothesis_format": args.hyp_format,
    }  # fmt: skip
    scoring = score(args.reference, args.hypothesis, **settings)
    found = report(scoring, args.block, args.seed)
    if args.compare:
        other = score(args.reference, args.compare, **settings)
        found["comparison"] = comparison(scoring, other, args.block, args.seed)
    if args.csv:
        from speechmill.score.csvfile import write_csv

        write_csv(args.csv, found, scoring.items)
    if args.html:
        from speechmill.score.page import write_page

        write_page(args.html, f"{args.hypothesis.name} against {args.reference.name}", found, scoring.items)
    if args.json == "-":
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        print(report_text(found))
        if args.json:
            write_json(Path(args.json), found)


def _check_score(args: Arguments) -> None:
    """Tell before the scoring what would fail behind it."""
    if args.seed < 0:
        raise SpeechmillError(f"--seed {args.seed}: expected a number from 0.")
    json_file = Path(args.json) if args.json and args.json != "-" else None
    inputs = (args.reference, args.hypothesis, args.compare, args.groups, args.alternatives)
    for option, path in (("--json", json_file), ("--csv", args.csv), ("--html", args.html)):
        if path is None:
            continue
        if str(path) == "-":
            raise SpeechmillError(f"{option} -: takes a file; --json - prints the scores.")
        if path.is_dir():
            raise SpeechmillError(f"{option} {path}: is a folder, expected a file.")
        if path.exists() and any(_holds(given, path) for given in inputs if given is not None):
            raise SpeechmillError(f"{option} {path}: is read by this command; choose another file.")
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            reason = "may not be written to" if above.is_dir() else "is no folder"
            raise SpeechmillError(f"{option} {path}: cannot be written; {above} {reason}.")


def _holds(given: Path, path: Path) -> bool:
    """Whether an input is this file, or a folder of transcripts with it."""
    if given.is_dir():
        from speechmill.score.formats.reading import is_transcript

        return is_transcript(path) and path.resolve().is_relative_to(given.resolve())
    return given.exists() and given.samefile(path)


def add_compare(verbs: Verbs) -> None:
    parser = verb(
        verbs, "compare", _compare, "runs -> tables, learning curves, a page",
        "speechmill compare mine/run --out mine/report",
    )  # fmt: skip
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, help="a folder, or a file that ends in .html, .md or .xlsx")
    parser.add_argument(
        "--wer", type=float, metavar="PERCENT",
        help="the validation WER to which times are told; default: the lowest that all runs reached",
    )  # fmt: skip


def _compare(args: Arguments) -> None:
    from speechmill.compare import compare

    if args.wer is not None and not args.wer >= 0:
        raise SpeechmillError(f"--wer {args.wer:g}: expected a number of per cent from 0.")
    comparison = compare(args.runs, args.out, None if args.wer is None else args.wer / 100)
    print(comparison.text)
    for path in comparison.written:
        print(path)


def _search(run: Path, overrides: Sequence[str]):  # type: ignore[no-untyped-def]
    from speechmill.train.runlog import read_config

    if not overrides:
        return None
    for override in overrides:
        if not override.startswith("search."):
            raise SpeechmillError(f"{override!r}: evaluate takes only settings of the search, e.g. search.kind=greedy.")
    from speechmill.config import override_recipe

    return override_recipe(read_config(run), overrides).search
