"""The verbs about shards: shard, and shards verify, repair, index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechmill.cli.verb import CORES, Arguments, Verbs, recipe_arguments, recipe_of, verb

if TYPE_CHECKING:
    from speechmill.shards.write import ShardReport, WorkerReport

CODECS = ("flac", "wav", "opus")  # as in settings.ShardSettings, which is slow to import


def add_shard(verbs: Verbs) -> None:
    parser = verb(
        verbs, "shard", _shard, "audio -> TAR shards of FLAC (or WAV, Opus) and JSON, with an index",
        "speechmill shard mine/selected.parquet mine/shards --recipe hparams/demo.yaml",
    )  # fmt: skip
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="the folder of shards to write")
    parser.add_argument("--processes", type=int, default=CORES, help="(default: %(default)s)")
    parser.add_argument(
        "--codec", choices=CODECS,
        help="how audio is stored (default: the recipe's shard.codec); a WAV has no checksum: flipped bits in "
        "it are seen by `shards verify` alone",
    )  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--worker", metavar="I/N", help="write part I of N alone (I from 0 or from 1); the last to end writes the index"
    )
    how.add_argument("--finish", action="store_true", help="only check that all workers are done and write the index")
    recipe_arguments(parser)


def _shard(args: Arguments) -> None:
    from speechmill.shards.write import WorkerReport, finish_shards, shard_manifest, shard_worker
    from speechmill.workers import Worker

    settings = recipe_of(args).shard
    if args.codec:
        settings = settings.model_copy(update={"codec": args.codec})
    report: ShardReport | WorkerReport
    if args.worker:
        report = shard_worker(args.manifest, args.out, settings, args.processes, Worker.parse(args.worker))
    elif args.finish:
        report = finish_shards(args.manifest, args.out, settings)
    else:
        report = shard_manifest(args.manifest, args.out, settings, args.processes)
    if isinstance(report, WorkerReport):
        print(f"{args.out}: worker {args.worker} is done; other workers still have {report.missing} shards to write")
        return
    done = " (already there, nothing to do)" if report.already_whole else ""
    print(f"{args.out}: {report.shards} shards, {report.utterances} utterances, {report.hours:.2f} h{done}")
    if report.dropped:
        print(f"dropped: {report.dropped} utterances; listed with reasons in {args.out / 'dropped.tsv'}")
    if not report.selected:
        print(
            f"note: {args.manifest} has no splits; for training run `speechmill select` first, and shard what it gives"
        )


def add_shards(verbs: Verbs) -> None:
    parser = verb(
        verbs, "shards", _no_verb, "verify, repair or index a folder of shards",
        "speechmill shards verify mine/shards",
    )  # fmt: skip
    inner = parser.add_subparsers(dest="shards_verb", required=True, metavar="VERB")
    _add_verify(inner)
    _add_repair(inner)
    _add_index(inner)


def _no_verb(args: Arguments) -> None:
    raise AssertionError(args)  # argparse asks for one of the inner verbs


def _add_verify(verbs: Verbs) -> None:
    parser = verb(
        verbs, "verify", _verify, "check checksums, TARs against the index, every utterance decoded, the ledger's sums",
        "speechmill shards verify mine/shards",
    )  # fmt: skip
    parser.add_argument("shards", type=Path)
    parser.add_argument("--processes", type=int, default=CORES, help="(default: %(default)s)")


def _verify(args: Arguments) -> int:
    from speechmill.shards.verify import verify

    problems = verify(args.shards, args.processes)
    for problem in problems:
        print(problem)
    print(f"{args.shards}: {len(problems)} problems" if problems else f"{args.shards}: whole")
    return 1 if problems else 0


def _add_repair(verbs: Verbs) -> None:
    parser = verb(
        verbs, "repair", _repair, "write again, from the plan, what is missing or broken",
        "speechmill shards repair mine/shards",
    )  # fmt: skip
    parser.add_argument("shards", type=Path)
    parser.add_argument("--processes", type=int, default=CORES, help="that verify (default: %(default)s)")


def _repair(args: Arguments) -> int:
    from speechmill.shards.repair import repair

    report = repair(args.shards, args.processes)
    for name in report.rewritten:
        other = " (other bytes than before)" if name in report.changed else ""
        print(f"{args.shards / name}.tar: written again{other}")
    if report.index_written:
        print(f"{args.shards}: index, ledger and checksums written again")
    for problem in report.problems:
        print(problem)
    if not report.rewritten and not report.index_written and not report.problems:
        print(f"{args.shards}: whole, nothing to do")
    return 1 if report.problems else 0


def _add_index(verbs: Verbs) -> None:
    parser = verb(
        verbs, "index", _index, "an index for WebDataset TARs that somebody else wrote, so that they train like ours",
        "speechmill shards index THEIR_TARS shard.sample_rate=16000",
    )  # fmt: skip
    parser.add_argument("shards", type=Path, help="a folder of .tar files")
    parser.add_argument("--processes", type=int, default=CORES, help="(default: %(default)s)")
    recipe_arguments(parser)


def _index(args: Arguments) -> None:
    from speechmill.shards.foreign import index_foreign

    report = index_foreign(args.shards, recipe_of(args).shard, args.processes)
    done = " (already there, nothing to do)" if report.already_whole else ""
    print(f"{args.shards}: {report.shards} shards, {report.utterances} utterances, {report.hours:.2f} h{done}")
    if report.dropped:
        print(f"dropped: {report.dropped} samples; listed with reasons in {args.shards / 'dropped.tsv'}")
