"""The plan of finished shards, written again from their manifest where it is gone or damaged."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from speechmill.artefact import locked, sha256, sha256_file
from speechmill.errors import SpeechmillError
from speechmill.settings import ShardSettings
from speechmill.shards.plan import (
    PLAN_NAME,
    earlier_fingerprints,
    plan_info,
    plan_manifest,
    plan_text,
    planned_pieces,
    read_plan_info,
    write_plan_info,
)  # fmt: skip
from speechmill.shards.planned import PLANNED_NAME, write_planned
from speechmill.shards.sums import known_sums, write_sums

_SCRATCH = ".replan"
_OTHERS = "holds the shards of another manifest or other settings"


def wrong_plan_files(folder: Path) -> list[str]:
    """The files of the plan that are missing or not as SHA256SUMS has them; none where that does not name them."""
    sums = known_sums(folder)
    named = [name for name in (PLAN_NAME, PLANNED_NAME) if name in sums]
    return [name for name in named if not (folder / name).is_file() or sha256_file(folder / name) != sums[name]]


def write_plan_again(manifest: Path, folder: Path, settings: ShardSettings, wait: float) -> None:
    """Write what `wrong_plan_files` names, and nothing else of a finished folder of shards.

    Its shards have the plan of the manifest and the settings where plan.json is what SHA256SUMS says; else
    SpeechmillError is raised. The rows tell of the recordings as they are now: where those have changed since, the
    checksum of plan.parquet does too.
    """
    with locked(folder, wait):
        wrong = wrong_plan_files(folder)
        if not wrong:
            return  # another command has done it
        sums = known_sums(folder)
        plan = plan_manifest(manifest, settings)
        sha = sha256_file(manifest)
        info = plan_info(plan, settings, sha)
        infos = [info, *(replace(info, fingerprint=name) for name in earlier_fingerprints(settings, sha))]
        if PLAN_NAME in wrong:
            fitting = [one for one in infos if sha256(plan_text(one).encode()) == sums[PLAN_NAME]]
            if not fitting:
                raise SpeechmillError(
                    f"{folder / PLAN_NAME}: is damaged, and the folder {_OTHERS} than these; give those of its shards."
                )
            write_plan_info(folder, fitting[0])
        elif read_plan_info(folder).fingerprint not in [one.fingerprint for one in infos]:
            raise SpeechmillError(f"{folder}: {_OTHERS}; remove it or choose another folder.")
        if PLANNED_NAME in wrong:
            try:
                write_planned(planned_pieces(manifest, plan, folder / _SCRATCH), folder)
            finally:
                shutil.rmtree(folder / _SCRATCH, ignore_errors=True)
            found = sha256_file(folder / PLANNED_NAME)
            if found != sums[PLANNED_NAME]:
                write_sums(folder, sums | {PLANNED_NAME: found})
