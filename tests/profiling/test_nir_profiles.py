"""Profiles of NIR networks against events counted in the outputs of plain loops."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

nir = pytest.importorskip("nir")

from nir_graphs import chain, load, neuron, reference, rng  # noqa: E402

import snn_energy  # noqa: E402
from snn_energy.__main__ import main  # noqa: E402
from snn_energy.errors import ConfigError  # noqa: E402
from snn_energy.profiling import Profile  # noqa: E402

T, B = 9, 4


def weights(*shape: int, seed: int = 5) -> np.ndarray:
    return rng(seed).normal(size=shape).astype(np.float32)


def events(*shape: int) -> np.ndarray:
    return (rng(3).random((T, B, *shape)) < 0.35).astype(np.float32)


def rows(profile: Profile) -> dict[str, Any]:
    found = {row.name: row for row in profile.rows}
    assert len(found) == len(profile.rows)
    return found


RECURRENT = (("lif", "w_rec"),)


def recurrent() -> Any:
    nodes = {
        "input": nir.Input({"input": np.array([5])}),
        "fc": nir.Linear(weights(6, 5)),
        "lif": neuron("CubaLIF", (6,)),
        "w_rec": nir.Linear(weights(6, 6, seed=6) * np.float32(0.5)),
        "out": nir.Affine(weights(3, 6, seed=7), weights(3, seed=8)),
        "li": neuron("LI", (3,)),
        "output": nir.Output({"output": np.array([3])}),
    }
    edges = [
        ("input", "fc"),
        ("fc", "lif"),
        ("lif", "w_rec"),
        ("w_rec", "lif"),
        ("lif", "out"),
        ("out", "li"),
    ]
    return nir.NIRGraph(nodes, [*edges, ("li", "output")], type_check=False)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, dict[str, np.ndarray]]:
    graph, x = recurrent(), events(5)
    model = load(graph, tmp_path_factory.mktemp("nir"))
    batches = [torch.as_tensor(x[:, :3]), torch.as_tensor(x[:, 3:])]
    return snn_energy.profile(model, batches, strict=True), reference(graph, x, RECURRENT)


def test_t_and_the_samples_are_those_of_the_data(measured) -> None:
    profile, _ = measured
    assert (profile.time_steps, profile.samples) == (T, B)
    assert profile.config == {"dt": 1e-4, "dt_from": "default"}
    assert profile.uncalled == () and profile.uncounted == () and profile.notes == ()


def test_accumulates_are_the_events_times_their_fan_out(measured) -> None:
    """What comes back over w_rec is the spikes of the step before: those of all steps but the last."""
    profile, out = measured
    found = rows(profile)
    came_back = np.count_nonzero(out["lif"][:-1])
    assert 0 < came_back < np.count_nonzero(out["lif"])
    for name, spikes, fan_out in (
        ("fc", np.count_nonzero(out["input"]), 6),
        ("w_rec", came_back, 6),
        ("out", np.count_nonzero(out["lif"]), 3),
    ):
        assert (found[name].ac, found[name].mac) == (spikes * fan_out, 0), name
        assert found[name].dense_macs == T * B * found[name].weight_elements, name
        assert found[name].input_elements == T * B * found[name].weight_elements // fan_out


def test_neurons_are_neurons(measured) -> None:
    profile, out = measured
    found = rows(profile)
    for name, op, size, (multiplies, adds, compares) in (
        ("lif", "cubalif", 6, (2, 2, 1)),
        ("li", "leaky_integrator", 3, (1, 1, 0)),
    ):
        row, updates = found[name], T * B * size
        assert (row.op, row.output_elements) == (op, updates)
        assert (row.neuron_mul, row.neuron_add, row.neuron_cmp) == (
            multiplies * updates,
            adds * updates,
            compares * updates,
        )
        assert row.state_elements == (2 if name == "lif" else 1) * size
    assert found["lif"].output_nonzero == np.count_nonzero(out["lif"])
    assert list(found["lif"].output_nonzero_by_step) == [np.count_nonzero(step) for step in out["lif"]]
    assert found["out"].sources == ("lif",) and found["w_rec"].sources == ("lif",)
    assert found["fc"].feeds == found["w_rec"].feeds == ("lif",)


def test_what_meets_at_a_neuron_is_added(measured) -> None:
    profile, _ = measured
    (add,) = (row for row in profile.rows if row.op == "add")
    assert add.output_elements == T * B * 6


def test_recorded_spikes_are_time_first(tmp_path: Path) -> None:
    graph, x = recurrent(), events(5)
    spikes = snn_energy.record_spikes(load(graph, tmp_path), torch.as_tensor(x))
    expected = reference(graph, x, RECURRENT)
    assert spikes["lif"].shape == (T, B, 6)
    assert (spikes["lif"].numpy() == (expected["lif"] != 0)).all()


@pytest.mark.parametrize(
    ("kind", "op", "costs"),
    [
        ("IF", "if", (0, 1, 1)),
        ("LIF", "lif", (1, 1, 1)),
        ("CubaLIF", "cubalif", (2, 2, 1)),
        ("I", "integrator", (0, 1, 0)),
        ("LI", "leaky_integrator", (1, 1, 0)),
        ("CubaLI", "cuba_integrator", (2, 2, 0)),
    ],
)
def test_what_an_update_costs(kind: str, op: str, costs: tuple[int, int, int], tmp_path: Path) -> None:
    """Also where T = B = C, where no shape tells time, samples and channels apart."""
    model = load(chain((5, 2), (5, 2), n=neuron(kind, (5, 2))), tmp_path)
    x = torch.as_tensor(rng(0).normal(0.5, 1.0, (5, 5, 5, 2)), dtype=torch.float32)
    (row,) = snn_energy.profile(model, [x]).rows
    assert row.op == op
    assert (row.neuron_mul, row.neuron_add, row.neuron_cmp) == tuple(250 * n for n in costs)
    by_step = [int(torch.count_nonzero(step)) for step in model(x)]
    assert list(row.output_nonzero_by_step) == by_step


def test_pools_and_thresholds(tmp_path: Path) -> None:
    """A sum multiplies nothing, a mean once per output; a comparison per element; a scale per element."""
    window = (np.array([2, 3]), np.array([2, 3]), np.array([0, 0]))
    graph = chain(
        (2, 6, 9),
        (3,),
        sum=nir.SumPool2d(*window),
        some=nir.Threshold(np.full((2, 3, 3), 1.5, np.float32)),
        scale=nir.Scale(np.full((2, 3, 3), 0.5, np.float32)),
        flat=nir.Flatten({"input": np.array([2, 3, 3])}, 0, -1),
        fc=nir.Linear(weights(3, 18)),
    )
    x = events(2, 6, 9)
    found = rows(snn_energy.profile(load(graph, tmp_path), [torch.as_tensor(x)], strict=True))
    assert (found["sum"].ac, found["sum"].scale_muls) == (np.count_nonzero(x), 0)
    assert found["some"].pool_cmp == T * B * 18
    assert found["scale"].scale_muls == T * B * 18
    passed = np.count_nonzero(reference(graph, x)["some"])
    assert found["fc"].ac == passed * 3 and passed > 0
    mean = chain((2, 6, 9), (2, 3, 3), mean=nir.AvgPool2d(*window))
    (row,) = snn_energy.profile(load(mean, tmp_path), [torch.as_tensor(x)], strict=True).rows
    assert (row.ac, row.scale_muls) == (np.count_nonzero(x), T * B * 18)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", (), "is empty"),
        (b"nonsense", (), "not a NIR file, or a damaged one"),
        (None, ("--dt", "0"), "must be seconds per step, above 0"),
        (None, ("--data", "digits"), "digits holds still images; this network takes frames"),
        (None, ("--model", "statten"), "a NIR graph is fixed: model = statten cannot be set"),
        (None, (), "no samples are known for this network: give --data NAME or --input FILE.npz"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    content: bytes | None,
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(recurrent(), tmp_path)
    if content is not None:
        (tmp_path / "net.nir").write_bytes(content)
    command = ["snn-energy", "profile", str(tmp_path / "net.nir"), "--out", str(tmp_path / "out"), *options]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as done:
        main()
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note:")]
    assert done.value.code == 2 and len(said) == 1 and message in said[0]
    assert not (tmp_path / "out").exists()


def test_the_contract_is_known(measured) -> None:
    profile, _ = measured
    assert profile.contract == (
        "2 neurons (known: 1 snn_energy.models.nir.NirCubaLIF, 1 snn_energy.models.nir.NirLI) · "
        "T = 9 (known: the data's) · its own loop (known) · batch axis 1 (known: the network's own) · "
        "reset by the network itself, at each call (known)"
    )


@pytest.mark.parametrize("said", [{"layout": "BT"}, {"layout": "B"}, {"batch_dim": 0}], ids=str)
def test_other_axes_are_contradicted(said: dict[str, Any], tmp_path: Path) -> None:
    (name, value), x = next(iter(said.items())), torch.as_tensor(events(5))
    model = load(recurrent(), tmp_path)
    with pytest.raises(
        ConfigError, match=f"{name} = {value!r} contradicts the network, which takes .* as TB"
    ):
        snn_energy.profile(model, [x], **said)
    right = snn_energy.profile(model, [x], layout="TB", time_steps=T, batch_dim=1)
    assert (right.time_steps, right.samples) == (T, B)
    with pytest.raises(ConfigError, match="time_steps = 4 contradicts the input"):
        snn_energy.profile(model, [x], time_steps=4)


@pytest.mark.parametrize("steps", [[2, 2, 2], [0, 3, 1]], ids=str)
def test_delays_move_events_and_cost_nothing(steps: list[int], tmp_path: Path) -> None:
    graph = chain((3,), (5,), wait=nir.Delay(np.array(steps) * 1e-4), fc=nir.Linear(weights(5, 3)))
    x = events(3)
    (row,) = snn_energy.profile(load(graph, tmp_path), [torch.as_tensor(x)], strict=True).rows
    arrived = reference(graph, x)["wait"]
    assert (row.name, row.ac, row.mac) == ("fc", 5 * np.count_nonzero(arrived), 0)
    assert row.dense_macs == T * B * 15 and np.count_nonzero(arrived) < np.count_nonzero(x)


def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["snn-energy", *map(str, arguments)])
        with contextlib.suppress(SystemExit):
            main()

    load(recurrent(), tmp_path)
    x, y = events(5), np.arange(B) % 3
    np.savez(tmp_path / "x.npz", x=x, y=y)
    command = ("profile", tmp_path / "net.nir", "--input", tmp_path / "x.npz", "--device", "cpu")
    run(*command, "--batch-size", 3, "--out", tmp_path / "out")
    printed = capsys.readouterr()
    profile = Profile.load(tmp_path / "out" / "profile.json")
    out = reference(recurrent(), x, RECURRENT)
    right = float((out["output"].mean(0).argmax(-1) == y).mean())
    assert profile.accuracy == right and (profile.time_steps, profile.samples) == (T, B)
    assert rows(profile)["fc"].ac == 6 * np.count_nonzero(x)
    assert f"{B} samples of x.npz, T = {T}" in printed.out
    assert "note: dt = 0.0001 s per step, the default" in printed.err
    run(*command, "--samples", 2, "--dt", "2e-4", "--out", tmp_path / "two")
    assert "note" not in capsys.readouterr().err
    two = Profile.load(tmp_path / "two" / "profile.json")
    assert two.config["dt"] == 2e-4 and two.samples == 2
    assert rows(two)["fc"].ac == 6 * np.count_nonzero(x[:, :2])
