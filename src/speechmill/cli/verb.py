"""What every verb needs: a parser with an example, the recipe of a command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechmill.workers import cores

if TYPE_CHECKING:
    from speechmill.settings import Recipe

Arguments = argparse.Namespace
Verbs = Any  # the type that add_subparsers returns has no public name
CORES = cores()
_CHECKOUT = Path(__file__).resolve().parents[3]
SCORE_FORMATS = ("lines", "recording", "id", "trn", "ctm", "jsonl", "nlp", "parquet")  # score.formats.reading.FORMATS
KINDS = (
    "bizspeech", "librispeech", "spgispeech", "earnings21", "earnings22", "commonvoice", "nemo", "lhotse", "csv",
    "jsonl", "folder",
)  # fmt: skip  # corpora.KINDS, without its imports: --help answers at once


def verb(
    verbs: Verbs,
    name: str,
    run: Callable[[Arguments], int | None],
    about: str,
    example: str,
) -> argparse.ArgumentParser:
    """A verb's parser: what it does in a line, with an example that works."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=about, epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run, refuse=parser.error)
    return parser


def recipe_arguments(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """--recipe FILE, and overrides behind everything else."""
    parser.add_argument(
        "--recipe", type=Path, default=default, help=f"YAML recipe (default: {default or 'each setting as it is'})"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings that replace the recipe's")


def recipe_of(args: Arguments, flags: Sequence[str] = ()) -> Recipe:
    """The recipe that a command line asks for: its file, then flags, then overrides."""
    from speechmill.config import default_recipe, load_recipe

    overrides = [*flags, *args.overrides]
    if args.recipe is None:
        return default_recipe(overrides)
    return load_recipe(_found(args.recipe), overrides)


def _found(recipe: Path) -> Path:
    """A recipe of the checkout goes by its name there, wherever the command is started."""
    of_checkout = _CHECKOUT / recipe
    return of_checkout if not recipe.exists() and recipe.parts[0] == "hparams" and of_checkout.is_file() else recipe


def as_yaml(value: object) -> str:
    """A value as it is written behind `key=` on a command line."""
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML, and quotes what YAML would take for something else
