"""Importers: one file per corpus format, one contract (`base`). `import_corpus` runs one and writes what it made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechmill.artefact import fingerprint, locked, read_json, sha256_file, write_json, written
from speechmill.corpora.base import ImportResult, Limits, find_recording, with_lengths
from speechmill.corpora.bizspeech import METADATA, TRANSCRIPT, import_bizspeech, list_calls
from speechmill.errors import SpeechmillError
from speechmill.ledger import import_ledger, ledger_path, write_ledger
from speechmill.manifest import write_manifest

KINDS = ("bizspeech",)
_VERSION = 2  # of what the importers do: raise it where the same source would give other rows


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
        lines += [f"not read: {failure}" for failure in report["failures"][:10]]
        if len(report["failures"]) > 10:
            lines.append(f"not read: {len(report['failures']) - 10} calls more")
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
    if kind not in KINDS:
        raise SpeechmillError(f"import: {kind!r} is no corpus format; known: {', '.join(KINDS)}.")
    source, limits = source.resolve(), limits or Limits()
    settings = {
        "version": _VERSION,
        "kind": kind,
        "source": str(source),
        "include": None if include is None else sorted(include),
        "exclude": sorted(exclude or ()),
        "limits": asdict(limits),
    }
    name = fingerprint([settings, _listing(source)])
    if report := _finished(out, name):
        return Imported(out, True, report)
    result = import_bizspeech(source, include=include, exclude=exclude, limits=limits)
    with locked(out):
        with written(drops_path(out)) as partial:
            result.drops.write_csv(partial, separator="\t", quote_style="never")
        recordings = with_lengths(result)
        write_ledger(import_ledger(result.table, result.drops, recordings), ledger_path(out))
        write_manifest(result.table, out)
        report = _report(result) | {"fingerprint": name, "manifest_sha256": sha256_file(out), "settings": settings}
        write_json(report_path(out), report)
    return Imported(out, False, report)


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


def _listing(source: Path) -> list[list[str | int]]:
    """Name, size and modification time of each file that the import reads."""
    paths = [source / METADATA]
    for call in list_calls(source):
        folder = source / "MEDIA" / call
        paths += [folder / TRANSCRIPT, _recording_of(folder)]
    return [[str(path.relative_to(source)), *_size_and_time(path)] for path in paths]


def _recording_of(folder: Path) -> Path:
    try:
        return find_recording(folder) or folder
    except OSError:  # no permission to look: the importer says so of the call
        return folder


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
