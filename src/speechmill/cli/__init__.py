"""The command line: verbs in the order of the pipeline; no logic. A verb imports the heavy modules that it needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from speechmill.cli import corpora, exchange, scoring, shards, training, whole
from speechmill.cli.verb import Arguments
from speechmill.errors import SpeechmillError

_IN_ORDER = (
    whole.add_demo,
    whole.add_pipeline,
    corpora.add_demo_corpus,
    corpora.add_import,
    corpora.add_align,
    corpora.add_export,
    corpora.add_overlap,
    corpora.add_select,
    shards.add_shard,
    shards.add_shards,
    training.add_tokenizer,
    training.add_fit_batch,
    training.add_train,
    scoring.add_evaluate,
    scoring.add_transcribe,
    scoring.add_score,
    scoring.add_compare,
    exchange.add_export,
    exchange.add_import_model,
    corpora.add_inspect,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit status.

    0; 1 where what a verb was asked to check does not hold; 2 for bad input (one line on standard error); 130 when
    interrupted.
    """
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
    parsed, rest = build_parser().parse_known_args(arguments)
    if rest and not (hasattr(parsed, "overrides") and all("=" in word and not word.startswith("-") for word in rest)):
        parsed.refuse(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.overrides = [*parsed.overrides, *rest]
    return parsed


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="speechmill",
        description="From long recordings with transcripts to a trained, scored speech recognizer.",
        epilog="Verbs are in the order of the pipeline; `speechmill VERB --help` has an example of each.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in _IN_ORDER:
        add(verbs)
    return parser
