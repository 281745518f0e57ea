"""`--target c` from a checkpoint to a microcontroller: host, QEMU, parts, what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from c_netlists import written
from command import refused, run
from staa_nets import staa_net
from test_lower import statten
from trained_statten import TRAINED

from snn_energy.errors import DataError, DoesNotFit, VerificationError
from snn_energy.exporters.c.build import call, compile_folder, frames_of, run_program
from snn_energy.exporters.chip.calibrate import lower_model
from snn_energy.exporters.mcu.boards import BOARDS, run_board
from snn_energy.exporters.mcu.export import as_written, held
from snn_energy.exporters.netlist.files import load
from snn_energy.exporters.netlist.record import SpikeAttention, StaaLif
from snn_energy.exporters.netlist.simulate import encode, simulate
from snn_energy.exporters.verification import read_verification


def needs(*tools: str) -> None:
    """Skip, and say why, where a tool of the system is missing."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: scripts/system_tools installs it")


def tools_of(*boards: str) -> tuple[str, ...]:
    return tuple(tool for name in boards for tool in (BOARDS[name].compiler, BOARDS[name].emulator))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    needs("gcc", *tools_of("cortex-m4", "riscv32"))
    out = tmp_path_factory.mktemp("c") / "out"
    boards = ("--mcu", "cortex-m4", "--mcu", "riscv32", "--mcu-samples", 2)
    done = run("export", TRAINED, "--target", "c", "--samples", 12, "--out", out, "--json", *boards)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_an_export_is_proven_here_and_on_two_microcontrollers(exported: tuple[Path, dict]) -> None:
    out, said = exported
    record = read_verification(out / "verification.json")
    assert record["target"] == "c" and record["verdict"] == "identical"
    builds, runs = said["c"]["builds"], said["microcontrollers"]["runs"]
    assert len(builds) == (3 if shutil.which("clang") else 2)
    assert (
        "-fsanitize=address,undefined" in builds[1]["flags"] and "-Wconversion -Werror" in builds[0]["flags"]
    )
    neurons = sum(check["compared"] for check in record["neurons"])
    for entry in builds:
        assert entry["mismatches"] == 0 and entry["samples"] == 12 and entry["compared"] >= neurons
    assert [entry["board"] for entry in runs] == ["cortex-m4", "riscv32"]
    for entry in runs:
        assert entry["mismatches"] == 0 and entry["samples"] == 2
        assert said["c"]["constant_bytes"] < entry["flash"] < said["c"]["constant_bytes"] + 20_000
        assert said["c"]["static_bytes"] <= entry["ram"] and 64 < entry["stack"] < 2048
    assert 0.5 < runs[0]["instructions"] / runs[1]["instructions"] < 2  # two counters, two instruction sets
    assert record["parts"]["c"] == said["c"] and 0.5 < said["c"]["event_share"] < 1


def test_all_sources_compile_together_and_print_classes(exported: tuple[Path, dict], tmp_path: Path) -> None:
    out, _ = exported
    binary = tmp_path / "network"
    call(["gcc", "-std=c11", "-O1", *map(str, sorted(out.glob("*.c"))), "-o", str(binary)], "gcc")
    printed = call([str(binary), str(out / "samples.bin")], "the program").decode().split()
    samples = np.load(out / "samples.npz")
    correct = np.array(printed, int) == samples["y"]
    accuracy = read_verification(out / "verification.json")["accuracy"]["netlist"]
    assert len(printed) == 12 and correct.mean() == accuracy
    readme = (out / "README.md").read_text()
    constants = exported[1]["c"]["constant_bytes"]
    assert (
        f"| constants (flash) | {constants:,} |" in readme
        and "network_infer(x, 1)" in readme
        and "`block.0.attn.q_conv` | events" in readme
    )


@pytest.mark.parametrize("runtime", ["c", "simulator", "cortex-m7"])
def test_verify_again(exported: tuple[Path, dict], runtime: str) -> None:
    if runtime in BOARDS:
        needs(*tools_of(runtime))
    done = run("verify", exported[0], "--runtime", runtime)
    assert done.returncode == 0 and "identical" in done.stdout, done.stderr


def test_a_changed_source_is_refused(exported: tuple[Path, dict], tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(exported[0], out)
    (out / "network.c").write_text((out / "network.c").read_text() + "\n")
    assert "network.c: corrupted or replaced" in refused("verify", out)
    with pytest.raises(DataError, match=r"network\.c is not what snn-energy .* writes for it: export again"):
        as_written(out, load(out))  # were the record changed, too: a stranger's C is not run
    assert as_written(exported[0], load(exported[0])).netlist.time_steps == 4


@pytest.mark.parametrize("kind", ["SDT", "STAA"])
def test_sdt_and_staa_on_the_host_and_on_a_board(kind: str, tmp_path: Path) -> None:
    board = "cortex-m4" if kind == "SDT" else "riscv32"
    needs("gcc", *tools_of(board))
    rng = np.random.default_rng(2)
    if kind == "SDT":
        model, x = (
            statten(attention_mode="SDT", pooling_stat="0110", T=2),
            rng.random((3, 2, 8, 12), np.float32),
        )
    else:
        model, x = staa_net(), rng.random((3, 2, 8, 12), np.float32)
    netlist = lower_model(model, x).netlist
    assert bool(netlist.named(SpikeAttention)) == (kind == "STAtten")
    assert bool(netlist.named(StaaLif)) == (kind == "STAA")
    messages = encode(netlist, x)
    made, wanted = written(netlist, tmp_path), simulate(netlist, messages)
    flags = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-DSPIKES", "-DNETWORK_TRACED",
             f"-DFRAMES={frames_of(made, messages)}")  # fmt: skip
    host = run_program(compile_folder(tmp_path, tmp_path / "host", flags=flags), made, messages)
    measured, got = run_board(board, tmp_path, made, messages, wanted)
    assert measured.mismatches == 0 and measured.compared > 1000
    for found in (host, got):
        assert held(made, messages, wanted, found, "C").require().ok
    next(iter(got.outputs.values()))[0, 0, 0, 0, 0] ^= 1
    with pytest.raises(VerificationError, match=r"c \(C\) differs from the model at .*, step 0, neuron"):
        held(made, messages, wanted, got, "C").require()


def test_what_does_not_fit_is_said_with_its_numbers(exported: tuple[Path, dict], tmp_path: Path) -> None:
    from snn_energy.exporters.mcu.parts import fit, part_names, require_fit

    fits = {entry["part"]: entry for entry in exported[1]["microcontrollers"]["fits"]}
    assert set(fits) == set(part_names()) and all(entry["fits"] for entry in fits.values())
    found = fit({"cortex-m4": 3 << 20}, {"cortex-m4": 200 << 10}, (1000, 1000))
    verdicts = {one.part: one.fits for one in found}
    assert verdicts == {
        "stm32f407": False,
        "nrf52840": False,
        "rp2350": True,
        "stm32h743": True,
        "esp32c3": True,
    }
    with pytest.raises(DoesNotFit) as error:
        require_fit(found, "nrf52840")
    assert str(error.value) == (
        "nRF52840 (Cortex-M4): does not fit, flash 3,072.0 KiB of 1,024.0 KiB, RAM 200.0 KiB of 256.0 KiB"
    )


def test_a_network_beyond_the_board_is_one_line(tmp_path: Path) -> None:
    needs(*tools_of("cortex-m4"))
    from test_c_source import big

    netlist = big()
    made = written(netlist, tmp_path)
    x = np.zeros((1, *netlist.nodes["x"].shape), int)
    with pytest.raises(
        DoesNotFit, match=r"cortex-m4: the program is [\d,]+ bytes larger than the ram of QEMU"
    ):
        run_board("cortex-m4", tmp_path, made, x, simulate(netlist, x))


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    export = ("export", TRAINED, "--target", "c", "--samples", 2)
    assert "mcu 'cortex-m3': did you mean 'cortex-m" in refused(*export, "--mcu", "cortex-m3")
    assert "unknown part 'stm32'" in refused(*export, "--require-fit", "stm32")
    assert "mcu_samples = 0: must be at least 1" in refused(*export, "--mcu-samples", 0)
    monkeypatch.setenv("PATH", "/nowhere")
    message = refused(*export, "--mcu", "riscv32")
    assert "running on riscv32 needs riscv64-unknown-elf-gcc: apt-get install gcc-riscv64" in message
