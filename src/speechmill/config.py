"""Recipes: YAML with includes and overrides -> one validated, frozen `Recipe`.

A recipe file is a mapping of sections. `include:` names other recipe files (relative to the file); what the file says
itself wins over what it includes, and `key.path=value` on the command line wins over both. Every mistake is one line
with the file, the line and the key.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel

from speechmill.artefact import read_text
from speechmill.errors import SpeechmillError
from speechmill.settings import ConformerSettings, CrdnnSettings, CtcSettings, Recipe, Section

_MODELS = (CrdnnSettings, CtcSettings, ConformerSettings)
_BRANCHES = {*(kind.model_fields["kind"].default for kind in _MODELS), "list[str]", "str", "folder", "folders"}


@dataclass
class _Source:
    """Raw settings with the place that each key came from, for messages."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[tuple[str, ...], str] = field(default_factory=dict)

    def put(self, path: tuple[str, ...], value: Any, place: str) -> None:
        """Set one leaf; a mapping is merged, anything else replaces."""
        self.places[path] = place
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                self.put((*path, str(key)), inner, place)
            return
        target = self.values
        for key in path[:-1]:
            if not isinstance(target.get(key), dict):
                target[key] = {}
            target = target[key]
        target[path[-1]] = value

    def place(self, path: Sequence[str]) -> str:
        for end in range(len(path), 0, -1):
            if tuple(path[:end]) in self.places:
                return self.places[tuple(path[:end])]
        below = (place for known, place in self.places.items() if known[: len(path)] == tuple(path))
        return next(below, "recipe")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge and check a recipe. Raises SpeechmillError: one line with the file, the line and the key."""
    source = _Source()
    _read_file(path, source, ())
    _put_overrides(source, overrides)
    return _validate(source, path)


def default_recipe(overrides: Sequence[str]) -> Recipe:
    """Each setting as it is without a recipe, but for the overrides."""
    source = _Source()
    _put_overrides(source, overrides)
    return _validate(source, Path("command line"))


def recipe_from_plain(values: dict[str, Any], path: Path) -> Recipe:
    """The recipe of a run folder's resolved config."""
    source = _Source()
    for key, value in values.items():
        source.put((key,), value, str(path))
    return _validate(source, path)


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe with some settings replaced."""
    source = _Source()
    for key, value in recipe.plain().items():
        source.put((key,), value, "recipe")
    _put_overrides(source, overrides)
    return _validate(source, Path("recipe"))


def _read_file(path: Path, source: _Source, parents: tuple[Path, ...]) -> None:
    if path.resolve() in parents:
        raise SpeechmillError(f"{path}: includes itself ({' -> '.join(str(parent) for parent in parents)}).")
    text = read_text(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SpeechmillError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}).") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise SpeechmillError(f"{path}: a mapping of sections was expected, found {type(values).__name__}.")
    lines = _lines_by_key(node, path)
    includes = values.pop("include", [])
    includes = [includes] if isinstance(includes, str) else includes
    if not isinstance(includes, list) or not all(isinstance(name, str) for name in includes):
        raise SpeechmillError(
            f"{path}, line {lines[('include',)]}: include: a recipe file or a list of them was expected, "
            f"found {includes!r}."
        )
    for name in includes:
        if not (path.parent / name).exists():
            raise SpeechmillError(f"{path}, line {lines[('include',)]}: include: {path.parent / name}: no such file.")
        _read_file(path.parent / name, source, (*parents, path.resolve()))
    _drop_changed_kind(source, values)
    for key, value in values.items():
        _put_with_lines(source, (str(key),), value, path, lines)


def _drop_changed_kind(source: _Source, values: dict[str, Any]) -> None:
    # Another kind of model has other keys: those of the included one must not linger.
    old, new = source.values.get("model"), values.get("model")
    if not isinstance(old, dict) or not isinstance(new, dict):
        return
    if "kind" in old and "kind" in new and old["kind"] != new["kind"]:
        source.values["model"] = {}


def _put_with_lines(
    source: _Source, path: tuple[str, ...], value: Any, file: Path, lines: dict[tuple[str, ...], int]
) -> None:
    place = f"{file}, line {lines.get(path, 0)}"
    if isinstance(value, dict) and value:
        source.places[path] = place
        for key, inner in value.items():
            _put_with_lines(source, (*path, str(key)), inner, file, lines)
    else:
        source.put(path, value, place)


def _lines_by_key(node: yaml.Node | None, path: Path) -> dict[tuple[str, ...], int]:
    lines: dict[tuple[str, ...], int] = {}
    for key, line in _lines(node, ()) if node is not None else ():
        if key in lines:  # YAML would take the last one and forget the others
            raise SpeechmillError(f"{path}, line {line}: {'.'.join(key)} is there twice, first in line {lines[key]}.")
        lines[key] = line
    return lines


def _lines(node: yaml.Node, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)


def _put_overrides(source: _Source, overrides: Sequence[str]) -> None:
    # The kind of the model first: it drops the settings of the other kind, and must not drop other overrides.
    for override in sorted(overrides, key=lambda override: not override.startswith(("model.kind=", "model="))):
        _put_override(source, override)


def _put_override(source: _Source, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SpeechmillError(f"{override!r}: an override is written key.path=value, e.g. train.updates=100.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpeechmillError(f"{override!r}: the value is not valid YAML.") from error
    path = tuple(key.strip().split("."))
    if path in {("model",), ("model", "kind")}:
        _drop_changed_kind(source, {"model": value if path == ("model",) else {"kind": value}})
    source.put(path, value, "command line")


def _validate(source: _Source, path: Path) -> Recipe:
    _check_keys(source, Recipe, source.values, ())
    try:
        return Recipe.model_validate(source.values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        # pydantic puts the branch of a union into the path.
        keys = [str(part) for part in first["loc"] if part not in _BRANCHES]
        message = _message(first["type"], first["msg"].removeprefix("Value error, "), first.get("input"))
        found = first.get("input")
        shown = f", found {found!r}" if not isinstance(found, dict | BaseModel) else ""
        place = source.place(keys) if keys else str(path)
        name = f"{'.'.join(keys)}: " if keys else ""
        raise SpeechmillError(f"{place}: {name}{message}{shown}.") from error


def _message(kind: str, message: str, found: Any) -> str:
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        what = "is missing" if kind == "union_tag_not_found" else "is not known"
        return f"kind {what}, expected 'crdnn', 'ctc' or 'conformer'"
    if kind == "string_type" and isinstance(found, int | float):
        return f"{message} (put it in quotes)"
    return message


def _check_keys(source: _Source, kind: type[BaseModel], values: dict[str, Any], path: tuple[str, ...]) -> None:
    """Unknown keys first, each with the nearest known one: pydantic's own message does not say it."""
    for key, value in values.items():
        place = source.place((*path, key))
        if key not in kind.model_fields:
            raise SpeechmillError(f"{place}: unknown key {'.'.join((*path, key))!r}{_nearest(key, kind, path)}")
        annotation = kind.model_fields[key].annotation
        if isinstance(value, bool) and annotation is not bool:
            # YAML reads yes, no, on and off as truth values, and pydantic would take them for 1 and 0.
            raise SpeechmillError(f"{place}: {'.'.join((*path, key))}: found {value}, which is no value of this key.")
        inner = _section_of(annotation, value)
        if inner is None:
            continue
        if not isinstance(value, dict):
            raise SpeechmillError(
                f"{place}: {'.'.join((*path, key))} is a section with the keys {', '.join(inner.model_fields)}, "
                f"found {value!r}."
            )
        _check_keys(source, inner, value, (*path, key))


def _section_of(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The section class that a field holds; among several, the one whose `kind` the value names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        classes = [
            choice for choice in typing.get_args(annotation) if isinstance(choice, type) and issubclass(choice, Section)
        ]
        named = value.get("kind") if isinstance(value, dict) else None
        for choice in classes:
            if named == choice.model_fields["kind"].default:
                return choice
    return None


def _nearest(key: str, kind: type[BaseModel], path: tuple[str, ...]) -> str:
    """The nearest known key, here or in any section."""
    for other in _MODELS if path == ("model",) else ():
        if key in other.model_fields:
            return f"; it belongs to model.kind {other.model_fields['kind'].default}."
    for name, section in Recipe.model_fields.items():
        inner = _section_of(section.annotation, {"kind": "crdnn"})
        if inner is not None and key in inner.model_fields:
            return f"; did you mean '{name}.{key}'?"
    here = difflib.get_close_matches(key, list(kind.model_fields), n=1, cutoff=0.5)
    if here:
        return f"; did you mean {'.'.join((*path, here[0]))!r}?"
    return f"; known here: {', '.join(kind.model_fields)}."
