"""Files of torch.save that are refused before torch sees them, and those that are not."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from snn_energy import reading
from snn_energy.errors import CheckpointError, SnnEnergyError
from snn_energy.safe_load import safe_load

Records = dict[str, bytes]

STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
HOOKS = b"ccollections\nOrderedDict\n)R"


def tensor(sizes: bytes, strides: bytes, offset: bytes = b"K\x00", storage: bytes = STORAGE) -> bytes:
    """Opcodes of a tensor over a storage of six floats."""
    return REBUILD + b"(" + storage + offset + sizes + strides + b"\x89" + HOOKS + b"tR"


WHOLE = tensor(b"K\x03K\x02\x86", b"K\x02K\x01\x86")


TWICE = b"(]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 60)) + b"t"
"""Lists of twice the list before."""


def stored(old: bytes, new: bytes) -> bytes:
    """A tensor of three in a storage described otherwise."""
    return named(tensor(b"K\x03\x85", b"K\x01\x85", storage=STORAGE.replace(old, new)))


def archive(path: Path, pickled: bytes, data: Records | None = None, *, packed: bool = False) -> Path:
    """A file as torch.save lays it out, with a pickle of one's own, and six floats if not told otherwise."""
    records = {"a/data.pkl": b"\x80\x02" + pickled + b".", "a/byteorder": b"little", "a/version": b"3\n"}
    records |= {"a/data/0": struct.pack("<6f", *range(6))} if data is None else data
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as made:
        for name, content in records.items():
            made.writestr(name, content)
    return path


def named(value: bytes) -> bytes:
    """Opcodes of {"w": value}."""
    return b"}X\x01\x00\x00\x00w" + value + b"s"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        safe_load(path)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_what_torch_writes_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {
        "views": [base[:, 1:, ::2], base.transpose(0, 2), base[0, 0, 0]],
        "expanded": torch.zeros(1).expand(5, 7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "types": [
            torch.ones(3).to(t) for t in (torch.half, torch.bfloat16, torch.int8, torch.bool, torch.uint16)
        ],
        "small": torch.ones(3).to(torch.float8_e4m3fn),
        "plain": (None, True, 3, -4, 2**70, 0.5, "ü", b"bytes", 1j, {1, 2}),
        "order": collections.OrderedDict(a=1),
        "size": base.shape,
        "type": torch.float32,
        "args": argparse.Namespace(lr=0.1, milestones=[1, 2]),
        "state": torch.nn.Linear(2, 3).state_dict(),  # with its metadata
        "optimizer": torch.optim.AdamW(torch.nn.Linear(2, 3).parameters()).state_dict(),
    }
    for archived in (True, False):
        if not archived:
            del content["types"][-1], content["small"]  # types that came with the archives
        torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=archived)
        found = safe_load(tmp_path / "m.pth")
        assert list(found) == list(content)
        assert all(torch.equal(a, b) for a, b in zip(found["views"], content["views"], strict=True))
        assert found["plain"] == content["plain"] and found["args"] == content["args"]
    assert torch.equal(
        safe_load(archive(tmp_path / "m.pth", named(WHOLE)))["w"], torch.arange(6.0).view(3, 2)
    )


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"]X\x01\x00\x00\x00wK\x01s", "sets items of a list"),
        (named(WHOLE + b"K\x00K\x01s"), "sets items of a tensor"),
        (named(WHOLE + b"(K\x00K\x01u"), "sets items of a tensor"),
        (b"}(K\x01K\x02K\x03u", "not one written by torch.save"),
        (b"}]K\x01s", "a key of a dict is a container"),
        (b")K\x01a", "appends to a tuple"),
        (b"}(K\x01K\x02e", "appends to a dict"),
        (named(tensor(b"K\x04K\x02\x86", b"K\x02K\x01\x86")), "beyond its storage of 24 bytes"),
        (named(tensor(b"K\x06\x85", b"K\x01\x85", b"K\x01")), "beyond its storage"),
        (named(tensor(b"J\xff\xff\xff\xff\x85", b"K\x01\x85")), "no list of whole numbers"),
        (named(tensor(b"K\x02\x85", b"J\xfe\xff\xff\xff\x85")), "no list of whole numbers"),
        (named(tensor(b"K\x02\x85", b"K\x01K\x01\x86")), "no list of whole numbers"),
        (named(tensor(b"K\x02\x85", b"K\x01\x85", b"J\xfe\xff\xff\xff")), "no list of whole numbers"),
        (named(tensor(b"K\x03\x85", b"K\x01\x85", storage=b"N")), "without a storage"),
        (stored(b"K\x06", b"K\x07"), "of 28 bytes"),
        (stored(b"\x000X", b"\x001X"), "has none"),
        (b"]" + WHOLE + b"a" + WHOLE.replace(b"FloatStorage", b"IntStorage") + b"a", "described in two ways"),
        (b"]" + STORAGE.replace(b"storagec", b"modulesc") + b"a", "no storage"),
        (b"]K\x01Qa", "no storage"),
        (b"cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R", "for that much memory"),
        (b"ctorch\nSize\nK\x03\x85R", "for that much memory"),
        (b"ctorch\nFloatStorage\nK\x03\x85R", "it calls torch.FloatStorage"),
        (b"ctorch\nFloatStorage\n)\x81", "makes an object of torch.FloatStorage"),
        (b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb", "sets attributes of a dict"),
        (WHOLE + b"}b", "sets the state of a tensor"),
        (b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R", "asks to import os.system"),
        (b"(X\x02\x00\x00\x00lsios\nsystem\n", "asks to import os.system"),
        (b"ctorch._utils\n_rebuild_sparse_tensor\n", "not a plain dense tensor"),
        (b"]q\x00h\x00a", "holds itself"),
        (b"]" * 200 + b"a" * 199, "nested more than 100 levels"),
        (TWICE, "2,000,000 values"),
        (b"N" * 2_000_100, "opcodes"),
        (b"h\x07", "not one written by torch.save"),
        (b"K", "not one written by torch.save"),
        (b"X\xff\xff\xff\x7fabc", "not one written by torch.save"),
        (b"NN", "not one written by torch.save"),
        (b"0", "which torch.save does not write"),
    ],
)  # fmt: skip
def test_opcodes_that_no_checkpoint_needs(tmp_path: Path, pickled: bytes, said: str) -> None:
    assert said in refusal(archive(tmp_path / "m.pth", pickled))


def test_archives_that_torch_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    with (
        zipfile.ZipFile(archive(path, named(WHOLE)), "a") as made,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        made.writestr("a/data.pkl", b"\x80\x02}.")
    assert "not one written by torch.save" in refusal(path)
    with zipfile.ZipFile(archive(path, named(WHOLE)), "a") as made:
        made.writestr("b/data.pkl", b"\x80\x02}.")
    assert "not one written by torch.save" in refusal(path)
    raw = bytearray(archive(path, named(WHOLE)).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag "encrypted" of every record
        start = raw.find(mark)
        while start >= 0:
            raw[start + at] |= 1
            start = raw.find(mark, start + 1)
    path.write_bytes(raw)
    assert "encrypted" in refusal(path)


def test_bombs_are_refused_by_what_they_declare(tmp_path: Path) -> None:
    zeros = {"a/data/0": bytes(40 << 20)}
    long = STORAGE.replace(b"K\x06", b"J" + struct.pack("<i", 10 << 20))
    packed = archive(
        tmp_path / "p.pth", named(tensor(b"K\x03\x85", b"K\x01\x85", storage=long)), zeros, packed=True
    )
    assert packed.stat().st_size < 1 << 17
    assert "41,943,185" in refusal(packed) and "--max-bytes" in refusal(packed)
    with reading.limits("50M"):
        assert safe_load(packed)["w"].tolist() == [0, 0, 0]
    with reading.limits("1M"):
        assert "more than the limit of 1,048,576" in refusal(packed)
    many = archive(tmp_path / "m.pth", b"X" + struct.pack("<I", 65 << 20) + b" " * (65 << 20), packed=True)
    with reading.limits("1G"):
        assert "of pickle" in refusal(many)


def legacy(path: Path, content: bytes, keys: list[str], storages: Iterable[tuple[int, bytes]]) -> Path:
    """A file as torch.save wrote it before archives."""
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [b"\x80\x02" + content + b".", pickle.dumps(keys, 2)]
    path.write_bytes(b"".join(parts) + b"".join(struct.pack("<q", n) + data for n, data in storages))
    return path


def test_files_from_before_archives(tmp_path: Path) -> None:
    path, six = tmp_path / "m.pth", struct.pack("<6f", *range(6))
    before = named(tensor(b"K\x03K\x02\x86", b"K\x02K\x01\x86", storage=STORAGE.replace(b"tQ", b"NtQ")))
    assert torch.equal(safe_load(legacy(path, before, ["0"], [(6, six)]))["w"], torch.arange(6.0).view(3, 2))
    assert "another number" in refusal(legacy(path, before, ["0"], [(7, six)]))
    assert "another number" in refusal(legacy(path, before, ["0"], [(6, six[:-1])]))
    assert "not a checkpoint" in refusal(legacy(path, before, ["1"], [(6, six)]))
    large = before.replace(b"K\x06", b"J" + struct.pack("<i", 1 << 30))
    assert "more than the file has" in refusal(legacy(path, large, ["0"], [(1 << 30, six)]))
    with tarfile.open(path, "w") as made:
        for name in ("storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(name)
            entry.size = len(six)
            made.addfile(entry, io.BytesIO(six))
    assert "is a tar archive" in refusal(path)


def test_changed_pickles_are_refused_or_give_plain_content(tmp_path: Path) -> None:
    """Bytes of the pickle changed, dropped and doubled, with right checksums: our error, or dense tensors."""
    chance, passed = random.Random(3), 0
    stream = io.BytesIO()
    content = {
        "state_dict": torch.nn.Linear(2, 3).state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
    }
    torch.save(content, stream)
    with zipfile.ZipFile(stream) as made:
        records = {name: made.read(name) for name in made.namelist()}
    (name,) = (name for name in records if name.endswith("data.pkl"))
    whole = records.pop(name)
    for _ in range(600):
        changed = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(2, len(changed))
            piece = bytes(chance.choices(whole, k=chance.randrange(3)))
            changed[at : at + chance.randrange(4)] = piece
        with zipfile.ZipFile(tmp_path / "m.pth", "w") as made:
            for record, data in {name: bytes(changed), **records}.items():
                made.writestr(record, data)
        try:
            found = safe_load(tmp_path / "m.pth")
        except SnnEnergyError as error:
            assert "\n" not in str(error)
        else:
            passed += 1
            _only_plain(found)
    assert 0 < passed < 590


def _only_plain(value: Any, depth: int = 0) -> None:
    assert depth < 100
    if isinstance(value, torch.Tensor):
        float(value.double().sum())  # every element can be read
    elif isinstance(value, dict):
        for key, item in value.items():
            _only_plain(key, depth + 1)
            _only_plain(item, depth + 1)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            _only_plain(item, depth + 1)
    else:
        known = (
            int,
            float,
            complex,
            str,
            bytes,
            bytearray,
            bool,
            type(None),
            argparse.Namespace,
            torch.dtype,
            type,
        )
        assert isinstance(value, known) or type(value).__module__.startswith("torch"), type(value)
