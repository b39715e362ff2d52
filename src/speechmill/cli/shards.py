"""The verbs about shards: shard, verify."""

from __future__ import annotations

from pathlib import Path

from speechmill.cli.verb import CORES, Arguments, Verbs, recipe_arguments, recipe_of, verb

CODECS = ("flac", "wav", "opus")  # as in settings.ShardSettings, which is slow to import


def add_shard(verbs: Verbs) -> None:
    parser = verb(
        verbs, "shard", _shard, "audio -> TAR shards of FLAC (or WAV, Opus) and JSON, with an index",
        "speechmill shard mine/selected.parquet mine/shards --recipe hparams/demo.yaml",
    )  # fmt: skip
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="the folder of shards to write")
    parser.add_argument("--processes", type=int, default=CORES, help="(default: %(default)s)")
    parser.add_argument("--codec", choices=CODECS, help="how audio is stored (default: the recipe's shard.codec)")
    recipe_arguments(parser)


def _shard(args: Arguments) -> None:
    from speechmill.shards.write import shard_manifest

    settings = recipe_of(args).shard
    if args.codec:
        settings = settings.model_copy(update={"codec": args.codec})
    report = shard_manifest(args.manifest, args.out, settings, args.processes)
    done = " (already there, nothing to do)" if report.already_whole else ""
    print(f"{args.out}: {report.shards} shards, {report.utterances} utterances, {report.hours:.2f} h{done}")
    if report.dropped:
        print(f"dropped: {report.dropped} utterances; listed with reasons in {args.out / 'dropped.tsv'}")


def add_verify(verbs: Verbs) -> None:
    parser = verb(
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
