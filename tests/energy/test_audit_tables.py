"""Tables as people write them: headings, units, separators, digits, and mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from snn_energy.energy import audit
from snn_energy.energy.auditing.table import read_table
from snn_energy.errors import ConfigError, DataError

SPIKFORMER = [
    *(("6.82", "7.734"), ("8.69", "9.41"), ("11.09", "11.577"), ("13.67", "13.899")),
    ("22.09", "21.477"),
]
CSV = "Model,Param (M),OPs (G),T,Energy (mJ),Acc\n" + "".join(
    f"S{i},16.8,{s},4,{mj},7{i}.1\n" for i, (s, mj) in enumerate(SPIKFORMER)
)


def spelled(headings: str, cells: Callable[[str, str], str]) -> str:
    return f"Model,{headings}\n" + "".join(f"S{i},{cells(*row)}\n" for i, row in enumerate(SPIKFORMER))


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        "\ufeff" + CSV,
        CSV.replace(",", ";"),
        CSV.replace(".", "§").replace(",", ";").replace("§", ","),
        CSV.replace(",", "\t"),
        CSV.replace("OPs (G)", "sops_g").replace("Energy (mJ)", "mj"),
        CSV.replace("OPs (G)", "SOPs"),
        CSV.replace("\n", "\r\n") + "\r\n",
        spelled("SOPs,mJ", lambda s, mj: f"{s}G,{mj} mJ"),
        spelled("GSOPs,Power (uJ)", lambda s, mj: f"{s},{float(mj) * 1000:.0f}"),
        spelled("SOPs,mJ", lambda s, mj: f"{float(s) * 1e9:.0f},{mj}"),
        spelled("SOPs,mJ", lambda s, mj: f'"{float(s) * 1e9:,.0f}",{mj}'),
        spelled("SOPs,mJ", lambda s, mj: f"{float(s) * 1000:.0f}M,{mj}"),
    ],
)  # fmt: skip
def test_spellings_of_one_table(text: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("utf-8"))
    found = audit(path)
    assert found.supported and [row.verdict for row in found.rows] == ["fits"] * 5
    assert found.finding.constant_mj == pytest.approx(1.596, abs=0.006)
    assert [round(row.sops / 1e9, 2) for row in found.rows] == [float(s) for s, _ in SPIKFORMER]


def test_a_column_without_units_is_read_as_said() -> None:
    found = audit([{"params": "16.81", "sops": s, "mj": mj} for s, mj in SPIKFORMER])
    assert found.rows[0].params == 16.81e6 and found.rows[0].sops == 6.82e9
    assert any("sops: no unit given; read in G" in note for note in found.notes)


def test_a_data_frame_and_floats() -> None:
    frame = pd.DataFrame(
        [{"sops_g": float(s), "mj": float(mj), "T": None} for s, mj in [*SPIKFORMER, ("1", "nan")]]
    )
    found = audit(frame)
    assert found.supported and found.finding.constant_mj == pytest.approx(1.596)
    assert found.rows[-1].verdict == "not testable"


def test_digits_claim_no_more_than_they_print() -> None:
    (row,) = read_table(
        [{"sops_g": "6.8", "macs": "1300000000", "mj": "7.70", "rate": "12 %", "T": "2×4"}]
    ).rows
    assert (row.sops.value, row.sops.half) == pytest.approx((6.8e9, 0.05e9))
    assert (row.macs.value, row.macs.half) == pytest.approx((1.3e9, 0.05e9))
    assert (row.mj.half, row.T.value) == (pytest.approx(0.005), 8)
    assert (row.rate.value, row.rate.half) == pytest.approx((0.12, 0.005))


MISTAKES = [
    (b"", "empty"),
    (b" \n\n", "empty"),
    (b"\x89PNG\r\n\x1a\n\0\0\0", "not a text file"),
    (b"\xff\xfa\xc3", "not a text file"),
    (b"model,sops_g\nA,3\n", "no column of energies"),
    (b"# a page\nof words, and more\n", "no column of energies"),
    (b"model,sops_g,mj\n", "no rows"),
    (b"model,sops_g,mj\n,,\n", "no rows"),
    (b"model,sops_g,SOPs,mj\nA,1,2,3\n", "'sops_g' and 'SOPs' both hold sops"),
    (b"model,mj,mj\nA,1,2\n", "both hold mj"),
    (b"model,sops_g,mj\nA,fast,3\n", "line 2, 'sops_g': 'fast' is no figure"),
    (b"model,sops_g,mj\nA,1,3\nB,-4,2\n", "line 3, 'sops_g': '-4' is no figure"),
    (b"model,sops_g,mj\nA,1,inf\n", "'inf' is no figure"),
    (b"model,sops_g,mj\nA,1,1e999\n", "'1e999' is no figure"),
    (b"model,sops_g,mj\nA,1,3 kg\n", "'3 kg' is no figure"),
    (b"model,T,mj\nA,0,3\n", "'0' time steps"),
    (b"model,T,mj\nA,2.5,3\n", "'2.5' time steps"),
    (b"model,sops_g,mj\nA,1,2,3\n", "line 2: 4 cells under 3 headings"),
    (b'model,sops_g,mj\nA,"1,2\n', "not CSV"),
]


@pytest.mark.parametrize(("content", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_a_mistake_is_one_clear_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        audit(path)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        audit(tmp_path / "none.csv")
    with pytest.raises(DataError, match="directory"):
        audit(tmp_path)
    with pytest.raises(DataError, match="no rows"):
        audit([])
    with pytest.raises(DataError, match="int is no table"):
        audit(3)
    with pytest.raises(ConfigError, match="price for a MAC"):
        audit([{"sops_g": "3.88", "mj": "4.04"}], costs="loihi")
