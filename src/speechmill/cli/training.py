"""The verbs that make a recognizer: tokenizer, train."""

from __future__ import annotations

import sys
from pathlib import Path

from speechmill.cli.verb import Arguments, Verbs, as_yaml, recipe_arguments, recipe_of, verb
from speechmill.errors import PeerLost, SpeechmillError


def add_tokenizer(verbs: Verbs) -> None:
    parser = verb(
        verbs, "tokenizer", _tokenizer, "train a SentencePiece tokenizer on the train split's text",
        "speechmill tokenizer mine/selected.parquet mine/tokenizer.model --recipe hparams/demo.yaml",
    )  # fmt: skip
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="the model to write")
    recipe_arguments(parser)


def _tokenizer(args: Arguments) -> None:
    from speechmill.tokenizer import train_tokenizer

    tokenizer, found = train_tokenizer(args.manifest, args.out, recipe_of(args).tokenizer)
    done = " (already there, nothing to do)" if found else ""
    print(f"{args.out}: {len(tokenizer)} pieces, fingerprint {tokenizer.fingerprint}{done}")


def add_train(verbs: Verbs) -> None:
    parser = verb(
        verbs, "train", _train, "make or continue a run folder",
        "speechmill train hparams/demo.yaml --run mine/run data.shards=mine/shards data.tokenizer=mine/tokenizer.model",
    )  # fmt: skip
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--run", dest="folder", type=Path, required=True, help="the run folder")
    parser.add_argument("--strategy", choices=("single", "ddp", "hogwild", "local_sgd"), help="sets train.strategy")
    parser.add_argument(
        "--processes", type=int, help="sets train.processes; torchrun's number counts where that started"
    )
    parser.add_argument(
        "--cache", metavar="DIR", help="read shards through this folder of a local disk: sets data.cache"
    )
    parser.add_argument(
        "--requeue", action="store_true", help="put the Slurm job back into the queue after SIGUSR1 has stopped it"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings that replace the recipe's")


def _train(args: Arguments) -> int:
    from speechmill.group import is_rank
    from speechmill.launch import not_again

    try:
        status = _trained(args)
    except SpeechmillError as error:
        if not is_rank() or isinstance(error, PeerLost):
            raise
        print(f"speechmill train: {error}", file=sys.stderr, flush=True)
        status = 2
    if status:
        sys.stdout.flush()
        not_again()
    return status


def _trained(args: Arguments) -> int:
    from speechmill.group import rank, world_size
    from speechmill.train.loop import train
    from speechmill.train.requeue import requeue

    processes = world_size() if world_size() > 1 else args.processes
    flags = [
        f"train.{name}={value}" for name, value in (("strategy", args.strategy), ("processes", processes)) if value
    ]
    if args.cache:
        flags.append(f"data.cache={as_yaml(args.cache)}")
    args.overrides = [*flags, *args.overrides]
    report = train(recipe_of(args), args.folder)
    if rank():
        return 0 if report.finished or args.requeue else 130  # torchrun starts those again that say they failed
    if args.requeue and report.stopped_by == "SIGUSR1" and not report.finished:
        print(f"{args.folder}: saved after {report.updates} updates; {requeue()}", flush=True)
        return 0
    best = f", best validation WER {report.best_wer:.2%} at {report.best_update}" if report.best_wer is not None else ""
    if not report.finished:
        print(f"{args.folder}: stopped by {report.stopped_by} after {report.updates} updates and saved; "
              f"run the same command to go on", flush=True)  # fmt: skip
        return 130
    done = " (already there, nothing to do)" if report.already_whole else ""
    early = f"; {report.early}" if report.early else ""
    print(f"{args.folder}: {report.updates} updates{best}{early}{done}")
    return 0


def add_fit_batch(verbs: Verbs) -> None:
    parser = verb(
        verbs, "fit-batch", _fit_batch, "the largest padded seconds of a training step that fit this device, by length",
        "speechmill fit-batch hparams/train.yaml --margin 0.1",
    )  # fmt: skip
    parser.add_argument("recipe", type=Path)
    parser.add_argument(
        "--margin", type=float, default=0.1, help="share of the memory left free (default: %(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings that replace the recipe's")


def _fit_batch(args: Arguments) -> None:
    from speechmill.train.fit import fit

    found, budget = fit(recipe_of(args), args.margin)
    print(f"{budget / 1e9:.1f} GB, {args.margin:.0%} of it left free")
    print("utterance s   utterances   schedule.limit_seconds   MB per padded s")
    for one in found:
        print(
            f"{one.seconds:11g}   {one.utterances:10d}   {one.limit_seconds:22.0f}   {one.bytes_per_second / 1e6:15.1f}"
        )
    print(f"for all lengths: schedule.limit_seconds={min(one.limit_seconds for one in found):.0f}")
