"""Every node that is read: written by the nir package, loaded, and run beside plain float64 loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

nir = pytest.importorskip("nir")

from nir_graphs import DT, agree, chain, load, neuron, rng  # noqa: E402

from snn_energy.models.nir.neurons import NEURONS, plain, rates  # noqa: E402

SPIKING = ("IF", "LIF", "CubaLIF")
T, B = 23, 3


def weights(*shape: int, seed: int = 5) -> np.ndarray:
    return rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("kind", NEURONS)
def test_neurons_take_euler_steps_of_their_equation(kind: str, shape: tuple[int, ...], tmp_path) -> None:
    features = shape or (6,)
    graph = chain(features, features, neuron=neuron(kind, shape))
    x = rng(1).normal(0.4, 1.0, (T, B, *features)).astype(np.float32)
    expected = agree(load(graph, tmp_path), graph, x)
    if kind in SPIKING:
        assert set(np.unique(expected)) == {0.0, 1.0}
        assert 0.02 < expected.mean() < 0.8
    else:
        assert expected.std() > 0.1


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 3, 5), (4, 3, 1)], ids=str)
def test_parameters_per_channel_or_place(shape: tuple[int, ...], tmp_path) -> None:
    graph = chain((4, 3, 5), (4, 3, 5), neuron=neuron("CubaLIF", shape))
    assert agree(load(graph, tmp_path), graph, rng(1).normal(0.5, 1.0, (T, B, 4, 3, 5))).any()


@pytest.mark.parametrize("kind", SPIKING)
def test_v_reset_and_w_in_that_a_file_does_not_have_are_0_and_1(kind: str, tmp_path) -> None:
    import h5py

    graph = chain((4,), (4,), neuron=neuron(kind, (4,), v_reset=np.zeros(4), w_in=np.ones(4)))
    load(graph, tmp_path)
    with h5py.File(tmp_path / "net.nir", "a") as file:
        for name in {"v_reset", "w_in"} & set(file["node/nodes/neuron"]):
            del file[f"node/nodes/neuron/{name}"]
    import snn_energy

    with pytest.warns(UserWarning, match="dt = 0.0001"):
        model = snn_energy.load(tmp_path / "net.nir")
    agree(model, graph, rng(2).normal(0.5, 1.0, (T, B, 4)))


def test_dt_changes_the_steps(tmp_path) -> None:
    graph = chain((4,), (4,), neuron=neuron("LIF", (4,)))
    x = rng(1).normal(0.6, 1.0, (T, B, 4))
    rates_ = [agree(load(graph, tmp_path, dt=dt), graph, x).mean() for dt in (2e-5, 5e-5, 1e-4)]
    assert len(set(rates_)) == 3


def test_a_membrane_on_its_threshold_does_not_fire(tmp_path) -> None:
    """NIR fires above it.  1 + 1 + 1 = 3 is not above 3; the next step is."""
    graph = chain((1,), (1,), neuron=nir.IF(*(np.array([v], np.float32) for v in (1 / DT, 3.0, 0.0))))
    out = load(graph, tmp_path)(torch.ones(8, 2, 1))
    assert out[:, 1, 0].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("stored", [np.float32, np.float64])
@pytest.mark.parametrize("dt", [1e-4, 1e-3, 3e-4])
def test_a_time_constant_of_whole_steps_stays_whole(stored: type, dt: float) -> None:
    """Written as n · dt seconds, float32 keeps no n: 2e-4 / 1e-4 is not 2 there."""
    steps = np.array([1.0, 2.0, 2.5, 3.0, 7.0, 20.0, 1000.0])
    got = 1 / rates((steps * dt).astype(stored), dt, "tau")
    assert got.tolist() == pytest.approx(steps.tolist(), rel=1e-15)
    if stored is np.float32:
        assert got.tolist() == steps.tolist()
        assert (steps * dt).astype(np.float32).astype(np.float64)[1] / dt != 2.0


def test_a_value_that_no_short_decimal_names_stays() -> None:
    values = rng(3).uniform(0.5, 2.0, 50).astype(np.float32)
    got = plain(values.astype(np.float64), values, lambda v: v)
    assert (got.astype(np.float32) == values).all()


LAYERS: dict[str, tuple[tuple[int, ...], Any]] = {
    "Affine": ((5,), lambda: nir.Affine(weights(4, 5), weights(4))),
    "Linear": ((5,), lambda: nir.Linear(weights(4, 5))),
    "Conv1d": ((4, 11), lambda: nir.Conv1d(11, weights(6, 2, 3), 2, 1, 2, 2, weights(6))),
    "Conv1d same": ((2, 11), lambda: nir.Conv1d(11, weights(3, 2, 5), 1, "same", 1, 1, weights(3))),
    "Conv1d valid": ((2, 11), lambda: nir.Conv1d(11, weights(3, 2, 4), 1, "valid", 1, 1, weights(3))),
    "Conv2d": (
        (4, 9, 7),
        lambda: nir.Conv2d((9, 7), weights(6, 2, 3, 2), (2, 1), (1, 0), (1, 2), 2, weights(6)),
    ),
    "Conv2d of one number": (
        (2, 9, 7),
        lambda: nir.Conv2d((9, 7), weights(3, 2, 3, 3), 2, 1, 1, 1, weights(3)),
    ),
    "Conv2d same": ((2, 9, 7), lambda: nir.Conv2d((9, 7), weights(3, 2, 5, 3), 1, "same", 1, 1, weights(3))),
    "SumPool2d": ((3, 8, 9), lambda: nir.SumPool2d(np.array([2, 3]), np.array([2, 3]), np.array([0, 1]))),
    "AvgPool2d": ((3, 8, 9), lambda: nir.AvgPool2d(np.array([2, 3]), np.array([1, 3]), np.array([1, 0]))),
    "Flatten": ((3, 2, 4, 5), lambda: nir.Flatten({"input": np.array([3, 2, 4, 5])}, 1, 2)),
    "Flatten all": ((3, 2, 4), lambda: nir.Flatten({"input": np.array([3, 2, 4])}, 0, -1)),
    "Scale": ((3, 4), lambda: nir.Scale(weights(3, 4))),
    "Threshold": ((3, 4), lambda: nir.Threshold(weights(3, 4))),
    "Delay": ((4,), lambda: nir.Delay(np.array([3, 0, 1, 5]) * DT)),
    "Delay of one": ((4,), lambda: nir.Delay(np.full(4, 2 * DT, np.float32))),
    "Delay of none": ((4,), lambda: nir.Delay(np.zeros(4))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, tmp_path) -> None:
    shape, make = LAYERS[name]
    graph = chain(shape, (1,), node=make())
    x = rng(4).normal(size=(7, 2, *shape))
    expected = agree(load(graph, tmp_path), graph, x)
    assert np.abs(expected).max() > 0.1


def test_a_chain_of_most_of_them(tmp_path) -> None:
    graph = chain(
        (2, 9, 8),
        (5,),
        conv=nir.Conv2d((9, 8), weights(4, 2, 3, 3), 1, 1, 1, 1, weights(4) * 0.1),
        lif=neuron("LIF", (4, 9, 8)),
        pool=nir.SumPool2d(np.array([3, 2]), np.array([3, 2]), np.array([0, 0])),
        some=nir.Threshold(np.full((4, 3, 4), 0.5, np.float32)),
        scale=nir.Scale(np.full((4, 3, 4), 0.75, np.float32)),
        flat=nir.Flatten({"input": np.array([4, 3, 4])}, 0, -1),
        fc=nir.Affine(weights(5, 48), weights(5)),
        cuba=neuron("CubaLIF", (5,)),
    )
    x = (rng(0).random((11, 3, 2, 9, 8)) < 0.3).astype(np.float32)
    expected = agree(load(graph, tmp_path), graph, x)
    assert 0.02 < expected.mean() < 0.9


def test_samples_do_not_see_each_other_and_calls_begin_at_rest(tmp_path) -> None:
    graph = chain((4,), (4,), a=neuron("CubaLIF", (4,)), wait=nir.Delay(np.full(4, 2 * DT)))
    model, x = load(graph, tmp_path), torch.as_tensor(rng(1).normal(0.5, 1.0, (T, B, 4))).float()
    whole = model(x)
    assert torch.equal(model(x), whole)
    assert torch.equal(torch.cat([model(x[:, :1]), model(x[:, 1:])], 1), whole)
    assert whole.any()
