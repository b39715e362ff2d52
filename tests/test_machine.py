"""What result files say of where they were made."""

from __future__ import annotations

import subprocess

import pytest
from benchmarks.machine import machine


def test_the_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine(["x"])["commit"].rstrip("+").isalnum()

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", absent)
    assert machine(["x"])["commit"] == "unknown"
