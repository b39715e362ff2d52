"""Importers: one file per corpus format, one contract (`base`). `import_corpus` runs one and writes what it made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechmill.artefact import fingerprint, locked, read_json, sha256_file, tidy, write_json, written
from speechmill.corpora.base import ImportResult, Limits, Opened, not_read
from speechmill.corpora.bizspeech import open_bizspeech
from speechmill.corpora.commonvoice import open_commonvoice
from speechmill.corpora.earnings import open_earnings21, open_earnings22
from speechmill.corpora.folder import open_folder
from speechmill.corpora.lhotse_cuts import open_lhotse
from speechmill.corpora.librispeech import open_librispeech
from speechmill.corpora.nemo import open_nemo
from speechmill.corpora.plain import open_csv, open_jsonl
from speechmill.corpora.spgispeech import open_spgispeech
from speechmill.errors import SpeechmillError
from speechmill.ledger import import_ledger, ledger_path, write_ledger
from speechmill.manifest import write_manifest

# In the order in which they are listed; docs/corpora.md has each one's layout.
FORMATS: dict[str, Callable[[Path], Opened]] = {
    "bizspeech": open_bizspeech,
    "librispeech": open_librispeech,
    "spgispeech": open_spgispeech,
    "earnings21": open_earnings21,
    "earnings22": open_earnings22,
    "commonvoice": open_commonvoice,
    "nemo": open_nemo,
    "lhotse": open_lhotse,
    "csv": open_csv,
    "jsonl": open_jsonl,
    "folder": open_folder,
}
KINDS = tuple(FORMATS)
_VERSION = 5  # of what the importers do: raise it where the same source would give other rows


@dataclass(frozen=True)
class Imported:
    """The outcome of `import_corpus`, as OUT.import.json says it."""

    manifest: Path
    done_before: bool  # the output was whole already
    report: dict[str, Any]

    def text(self) -> str:
        """A few lines for the terminal."""
        report = self.report
        lines = [
            f"{self.manifest}: {report['utterances']} utterances, {report['hours_kept']:.2f} h "
            f"of {report['hours_in']:.2f} h, {report['calls_read']} calls"
            + (" (already there, nothing to do)" if self.done_before else "")
        ]
        if report["dropped"]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in report["dropped"].items())
            lines.append(f"dropped: {reasons}; listed in {drops_path(self.manifest)}")
        lines += not_read(report["failures"])
        return "\n".join(lines + [f"note: {warning}" for warning in report["warnings"]])


def import_corpus(
    kind: str,
    source: Path,
    out: Path,
    *,
    include: set[str] | None = None,
    exclude: set[str] | None = None,
    limits: Limits | None = None,
) -> Imported:
    """Import `source` and write `out` (the manifest), OUT.dropped.tsv (every dropped row), OUT.ledger.parquet and
    OUT.import.json.

    An output that is whole, of the same settings and of an unchanged source (names, sizes and modification times of its
    files), is left as it is. The same source and settings give the same bytes.
    Raises SpeechmillError where the source as a whole cannot be imported.
    """
    limits = limits or Limits()
    source = source.resolve()
    opened = open_corpus(kind, source)
    settings = {
        "version": _VERSION,
        "kind": kind,
        "source": str(source),
        "include": None if include is None else sorted(include),
        "exclude": sorted(exclude or ()),
        # As before there was `ignore_times`, so that what was imported then is found.
        "limits": {name: value for name, value in asdict(limits).items() if name != "ignore_times" or value},
    }
    name = fingerprint([settings, _listing(opened.files)])
    if report := _finished(out, name):
        tidy(out)
        return Imported(out, True, report)
    result = opened.read(include, exclude, limits)
    with locked(out):
        with written(drops_path(out)) as partial:
            result.drops.drop("recording").write_csv(partial, separator="\t", quote_style="never")
        write_ledger(import_ledger(result.table, result.drops, result.recordings), ledger_path(out))
        write_manifest(result.table, out)
        report = _report(result) | {"fingerprint": name, "manifest_sha256": sha256_file(out), "settings": settings}
        write_json(report_path(out), report)
    return Imported(out, False, report)


def open_corpus(kind: str, source: Path) -> Opened:
    """Find the corpus that lies at `source`. Raises SpeechmillError where `kind` is none or nothing of it is there."""
    if kind not in FORMATS:
        raise SpeechmillError(f"import: {kind!r} is no corpus format; known: {', '.join(KINDS)}.")
    if not source.exists():
        raise SpeechmillError(f"{source}: no such file or folder; {kind} was expected there.")
    return FORMATS[kind](source)


def named_corpus(text: str) -> tuple[str, Path] | None:
    """'librispeech:DIR/test-clean' -> its kind and place; None for what is no KIND:DIR."""
    kind, colon, place = text.partition(":")
    return (kind, Path(place)) if colon and kind in FORMATS else None


def drops_path(out: Path) -> Path:
    return out.with_suffix(".dropped.tsv")


def report_path(out: Path) -> Path:
    return out.with_suffix(".import.json")


def _finished(out: Path, name: str) -> dict[str, Any] | None:
    """The report of an output that is whole and has this fingerprint: written last, it knows the manifest's sum."""
    if not all(path.is_file() for path in (report_path(out), drops_path(out), ledger_path(out), out)):
        return None
    report: dict[str, Any] = read_json(report_path(out))
    same = report.get("fingerprint") == name and report.get("manifest_sha256") == sha256_file(out)
    return report if same else None


def _listing(files: list[Path]) -> str:
    """The SHA-256 of name, size and modification time of each file that the import reads."""
    found = hashlib.sha256()
    for path in files:
        size, time = _size_and_time(path)
        found.update(f"{path}\0{size}\0{time}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and nanoseconds; -1, -1 of what is no file or may not be looked at."""
    try:
        found = path.stat() if path.is_file() else None
    except OSError:
        found = None
    return (found.st_size, found.st_mtime_ns) if found else (-1, -1)


def _report(result: ImportResult) -> dict[str, Any]:
    kept = float((result.table["end"] - result.table["start"]).sum())
    return {
        "utterances": len(result.table),
        "calls_read": result.calls_read,
        "calls_failed": len(result.failures),
        "calls_left_out": result.calls_left_out,
        "hours_in": round(result.seconds / 3600, 6),
        "hours_kept": round(kept / 3600, 6),
        "dropped": result.counts,
        "failures": result.failures,
        "warnings": result.warnings,
    }
