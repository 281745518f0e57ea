"""What the operating system refuses, and Ctrl-C: one line, exit code 2, before the work, and nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from snn_energy import files
from snn_energy.cli import app
from snn_energy.cli.guard import guarded
from snn_energy.errors import FileError, Interrupted, SnnEnergyError
from snn_energy.files import atomic_write, try_file, try_folder, write_text
from snn_energy.profiling.profile import OpRow, Profile


def small(folder: Path) -> Path:
    row = OpRow("fc", "linear", input_kind="real", input_elements=6, dense_macs=18, valid_macs=18, mac=18)
    Profile((row,), 2, 3).save(folder / "profile.json")
    return folder / "profile.json"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place, words in (
        (tmp_path / "file", "is a file"), (tmp_path / "file" / "below", "is a file"),
        (tmp_path / ("n" * 300), "too long"), (Path("/proc/nowhere"), "/proc"),
    ):  # fmt: skip
        with pytest.raises(FileError, match=words) as error:
            try_folder(place)
        assert "\n" not in str(error.value) and isinstance(error.value, OSError)
    with pytest.raises(FileError, match="is a folder"):
        try_file(tmp_path)
    try_folder(tmp_path / "new" / "newer")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_what_cannot_be_written_is_kept_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError) as error:
        write_text(tmp_path / "file" / "report.html", "what took a week")
    found = re.search(r"what was to be written is in (.*\.html)$", str(error.value))
    assert found and Path(found[1]).read_text() == "what took a week"
    Path(found[1]).unlink()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profile.json"
    path.write_text("old")

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(files, "_elsewhere", lambda *_: None)
    with pytest.raises(FileError, match=r"profile\.json: No space left on device$"):
        write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_of_ours_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(SnnEnergyError, match=r"^mine$"), atomic_write(tmp_path / "a"):
        raise SnnEnergyError("mine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (PermissionError(13, "Permission denied", "/x"), FileError, "^/x: Permission denied$"),
        (BrokenPipeError(32, "Broken pipe"), FileError, "standard output was closed"),
        (KeyboardInterrupt(), Interrupted, "interrupted"),
        (MemoryError(), Interrupted, "--batch-size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), Interrupted,
         "--batch-size"),
    ],
)  # fmt: skip
def test_a_commands_errors_are_ours(error: BaseException, kind: type[SnnEnergyError], words: str) -> None:
    @guarded
    def command() -> None:
        raise error

    with pytest.raises(kind, match=words) as found:
        command()
    assert found.value.exit_code == 2
    with pytest.raises(RuntimeError, match=r"^a mistake$"):
        guarded(lambda: (_ for _ in ()).throw(RuntimeError("a mistake")).__next__())()


@pytest.mark.parametrize("command", ["profile", "export", "train"])
def test_the_output_folder_is_tried_first(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    network = ["digits-statten", "epochs=1"] if command == "train" else ["--model", "no-such-model"]
    result = CliRunner().invoke(app, [command, *network, "--out", str(tmp_path / "file" / "below")])
    assert isinstance(result.exception, FileError) and "is a file" in str(result.exception)


def test_the_limit_can_be_raised_on_the_command_line(tmp_path: Path) -> None:
    path = small(tmp_path)
    size = path.stat().st_size
    result = CliRunner().invoke(app, ["--max-bytes", str(size - 1), "report", str(path)])
    assert f"{size:,} bytes, more than the limit of {size - 1:,}" in str(result.exception)
    result = CliRunner().invoke(app, ["--max-bytes", str(size), "report", str(path)])
    assert result.exit_code == 0, result.exception


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "snn_energy", "list", "costs"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and done.stderr == "error: No space left on device\n"


def test_a_pipe_that_nobody_reads() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "snn_energy", "reproduce", "--format", "json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 2
    assert done.stderr == "error: standard output was closed before everything was printed\n"


INTERRUPTED = """
import signal, sys
from snn_energy.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
module = sys.argv.pop(1)
class Finder:
    def find_spec(name, *_):
        if name == module:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder)
main()
"""


@pytest.mark.parametrize("module", ["typer", "snn_energy.cli.guard", "torch"])
def test_ctrl_c_while_modules_are_imported(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, module, "train", "digits-statten", "--out", "/proc/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: interrupted"), done.stderr
    assert done.stderr.count("\n") == 1
