"""Training gives the committed losses. A change that moves them needs a reason, and the file made anew."""

from __future__ import annotations

import json

import pytest
import torch
from golden_curve import PATH, UPDATES, curve


@pytest.mark.parametrize("kind", ["crdnn", "ctc"])
def test_the_loss_curve_is_the_golden_one(kind: str) -> None:
    golden = json.loads(PATH.read_text(encoding="utf-8"))
    expected = golden["curves"][kind]
    same_cpu = golden["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    compared = UPDATES if same_cpu else 10
    found = curve(kind, compared)
    assert found[:10] == pytest.approx(expected[:10], rel=1e-6)
    assert found == pytest.approx(expected[:compared], rel=1e-6)
    assert expected[-1] < 0.8 * expected[0], "the golden run does not learn, so it would not show much"
