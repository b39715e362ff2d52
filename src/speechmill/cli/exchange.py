"""The verbs that hand recognizers to other toolkits, and take theirs: export, import-model."""

from __future__ import annotations

from pathlib import Path

from speechmill.cli.verb import Arguments, Verbs, recipe_arguments, recipe_of, verb

_FORMATS = ("speechbrain", "torchscript", "onnx")  # exchange.export.FORMATS, without its imports


def add_export(verbs: Verbs) -> None:
    parser = verb(
        verbs, "export", _export, "a run's recognizer as a SpeechBrain folder, TorchScript or ONNX",
        "speechmill export mine/run mine/speechbrain --format speechbrain search.kind=greedy",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("out", type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument("--format", choices=_FORMATS, default="speechbrain")
    parser.add_argument("--checkpoint", default="best", help="best, last or a number of updates (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="search.key=value", help="the search of SpeechBrain's folder")


def _export(args: Arguments) -> None:
    from speechmill.config import override_recipe
    from speechmill.errors import SpeechmillError
    from speechmill.exchange.export import export
    from speechmill.train.runlog import read_config

    if others := [one for one in args.overrides if not one.startswith("search.")]:
        raise SpeechmillError(f"export: {others[0]} is no setting of the search; only those of search.* are taken.")
    search = override_recipe(read_config(args.folder), args.overrides).search
    there = export(args.folder, args.out, args.format, args.checkpoint, search)
    print(f"{args.out}: {'already there, nothing to do' if there else f'written as {args.format}'}")


def add_import_model(verbs: Verbs) -> None:
    parser = verb(
        verbs, "import-model", _import_model, "a SpeechBrain model of the thesis's kind -> a run to go on with",
        "speechmill import-model speechbrain/folder mine/run --recipe hparams/train.yaml data.shards=mine/shards",
    )  # fmt: skip
    parser.add_argument("source", type=Path, help="the folder with asr.ckpt, normalizer.ckpt and tokenizer.ckpt")
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run folder to begin")
    parser.add_argument(
        "--refit-ctc", action="store_true",
        help="fit the CTC head anew (loss.refit_updates): the encoder was trained on without it, as the thesis's",
    )  # fmt: skip
    recipe_arguments(parser)


def _import_model(args: Arguments) -> None:
    from speechmill.exchange.imported import import_model

    import_model(args.source, args.folder, recipe_of(args), args.refit_ctc)
    print(
        f"{args.folder}: begun with the weights of {args.source}; go on with "
        f"`speechmill train {args.folder}/config.yaml --run {args.folder}` (optim.lr and train.updates are those of "
        f"this import)"
    )
