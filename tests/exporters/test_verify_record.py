"""The verdict: what counts as identical, as a tie, as wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snn_energy.errors import DataError, VerificationError
from snn_energy.exporters.verification import TIE, Difference, NeuronCheck, Verification, read_verification


def verification(**fields: Any) -> Verification:
    base: dict[str, Any] = {"target": "onnx", "form": "multi-step", "samples": 8}
    checks = (NeuronCheck("lif", 1000, 300, 0), NeuronCheck("head_lif", 500, 20, 0))
    return Verification(
        **{**base, "logits_difference": 1e-7, "predictions_differ": 0, "neurons": checks, **fields}
    )


def difference(margin: float, node: str = "lif") -> Difference:
    return Difference(3, node, 1, (2, 5), 1.0 + margin, 1.0)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, "identical"),
        ({"logits_difference": 1.1e-5}, "different"),
        ({"logits_difference": float("nan")}, "different"),
        ({"predictions_differ": 1}, "different"),
        ({"differences": (difference(TIE / 2),)}, "identical but for ties"),
        ({"differences": (difference(TIE / 2), difference(TIE * 2))}, "different"),
        ({"differences": (difference(-TIE / 2),), "predictions_differ": 1}, "different"),
    ],
)
def test_verdicts(fields: dict[str, Any], verdict: str) -> None:
    record = verification(**fields)
    assert record.verdict == verdict
    if verdict == "different":
        with pytest.raises(VerificationError):
            record.require()
    else:
        assert record.require() is record


def test_the_error_names_node_step_and_margin() -> None:
    record = verification(differences=(difference(1e-7), difference(0.25, "block.0.attn.q_lif")))
    with pytest.raises(
        VerificationError, match=r"block\.0\.attn\.q_lif, step 1, neuron \(2, 5\) of sample 3.*1\.25"
    ):
        record.require()


def test_record_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "verification.json"
    verification(differences=(difference(1e-6),)).save(path)
    record = read_verification(path)
    assert record["verdict"] == "identical but for ties"
    assert record["first_difference"]["margin"] == pytest.approx(1e-6)
    assert "1,500 of 1,500 spikes equal" in record["summary"]
    path.write_text("{")
    with pytest.raises(DataError, match=r"verification\.json"):
        read_verification(path)
    path.write_text('{"target": "onnx"}')
    with pytest.raises(DataError, match="schema 2"):
        read_verification(path)
