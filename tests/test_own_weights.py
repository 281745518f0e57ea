"""Weights into a network of the user's own: where in a file they lie, under which names, whether they fit."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import snn_energy
from snn_energy import weights
from snn_energy.errors import CheckpointError, ConfigError
from snn_energy.own import fit_weights, load_own


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, hidden, 3)
        self.norm = nn.BatchNorm1d(hidden)


class Net(nn.Module):
    """Two blocks of the same names, other shapes; a head."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(2, 3), Block(3, 4))
        self.head = nn.Linear(4, classes)


class Wrapped(nn.Module):
    """A network inside another, as Lightning, `DataParallel` and `torch.compile` put it."""

    def __init__(self, name: str, net: nn.Module) -> None:
        super().__init__()
        self.add_module(name, net)


def net(seed: int, classes: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    made = Net(classes)
    for number, buffer in enumerate(made.buffers()):
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape) + number)
    return made


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def same(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def prefixed(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


def refusal(module: nn.Module, path: Path, key: str | None = None, name: str = "net.py:build") -> str:
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        fit_weights(module, path, key, name=name)
    after = module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before), "a file that does not fit was half loaded"
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


PARTS = ("", "module.", "model.", "_orig_mod.", "net.")


@pytest.mark.parametrize("outer", PARTS)
@pytest.mark.parametrize("inner", PARTS)
def test_prefixes_of_wrappers_are_found_out(tmp_path: Path, outer: str, inner: str) -> None:
    """Nested, of the file or of the network."""
    theirs, prefix = net(1), outer + inner
    path = saved(tmp_path / "w.pt", prefixed(theirs.state_dict(), prefix))
    mine = net(2)
    fit_weights(mine, path)
    assert same(mine, theirs)
    wrapped = Wrapped("student", net(3))
    fit_weights(wrapped, path)
    assert same(wrapped.student, theirs)


def test_what_compile_puts_in_the_middle_and_shared_beginnings(tmp_path: Path) -> None:
    theirs = net(1)
    state = {k.replace("blocks.1.", "blocks.1._orig_mod."): v for k, v in theirs.state_dict().items()}
    mine = net(2)
    fit_weights(mine, saved(tmp_path / "w.pt", state))
    assert same(mine, theirs)
    lightning = {f"net.{k}": v for k, v in theirs.state_dict().items()} | {"loss.weight": torch.ones(5)}
    mine = net(2)
    notes = fit_weights(mine, saved(tmp_path / "l.pt", {"state_dict": lightning, "epoch": 3}))
    assert same(mine, theirs)
    assert notes == (
        "weights taken from 'state_dict' in the file",
        "names in the file fit with 'net.' taken off",
        "left out of the file's weights, not the network's: loss.weight",
    )


def test_a_networks_own_names_are_no_wrapper(tmp_path: Path) -> None:
    """`model.` may be the network's own: nothing is taken off where all fits as it is."""
    theirs, mine = Wrapped("model", net(1)), Wrapped("model", net(2))
    assert fit_weights(mine, saved(tmp_path / "w.pt", theirs.state_dict())) == ()
    assert same(mine, theirs)


def test_shifts_of_names_are_those_of_a_plain_search() -> None:
    """Against trying every prefix of every name on both sides."""
    chance = random.Random(3)
    for _ in range(60):
        parts = [".".join(chance.choices("abc", k=chance.randint(1, 4))) for _ in range(8)]
        expected = {
            f"{chance.choice(('', 'x.', 'x.y.'))}{p}": torch.zeros(1 + i) for i, p in enumerate(parts)
        }
        before = chance.choice(("", "m.", "m.n."))
        found = {before + k: v for k, v in expected.items() if chance.random() < 0.9}
        if not found:
            continue

        def prefixes(names: Mapping[str, Any]) -> set[str]:
            cut = {tuple(n.split(".")[:i]) for n in names for i in range(4)}
            return {"".join(f"{part}." for part in c) for c in cut}

        best = max(
            sum(
                put + name.removeprefix(off) in expected
                and expected[put + name.removeprefix(off)].shape == value.shape
                for name, value in found.items()
                if name.startswith(off)
            )
            for off, put in itertools.product(prefixes(found), prefixes(expected))
        )
        assert weights.aligned(found, expected).fitting == best


@pytest.mark.parametrize(
    "where", ["state_dict", "model", "model_state_dict", "net", "anything.you.like", "a.b"]
)
def test_containers_are_looked_through(tmp_path: Path, where: str) -> None:
    theirs, mine = net(1), net(2)
    content: Any = dict(theirs.state_dict())
    for key in reversed(where.split(".")):
        content = {"epoch": 3, key: content, "best": torch.tensor(0.7)}
    content["optimizer"] = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    path = saved(tmp_path / "w.pt", content)
    assert fit_weights(mine, path) == (f"weights taken from {where!r} in the file",)
    assert same(mine, theirs)
    again = net(4)
    assert fit_weights(again, path, where) == ()
    assert same(again, theirs)


def test_of_several_the_one_that_fits_best_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    theirs, averaged, other = net(1), net(5), net(6, classes=9)
    content = {
        "model": other.state_dict(),
        "state_dict_ema": prefixed(averaged.state_dict(), "module."),
        "state_dict": theirs.state_dict(),
        "ema.model": averaged.state_dict(),
    }
    path = saved(tmp_path / "w.pt", content)
    mine = net(2)
    assert fit_weights(mine, path) == (
        "weights taken from 'state_dict' in the file; 'ema.model' and 'state_dict_ema' would fit, too "
        "(--weights-key)",
    )
    assert same(mine, theirs)
    for key in ("state_dict_ema", "ema.model"):
        mine = net(2)
        fit_weights(mine, path, key)
        assert same(mine, averaged)
    nine = net(2, classes=9)
    assert fit_weights(nine, path) == ("weights taken from 'model' in the file",)
    assert same(nine, other)
    message = refusal(net(2), path, "state_dct")
    assert (
        "holds nothing at --weights-key state_dct; did you mean 'state_dict'? known: ema.model, model"
        in message
    )


def test_a_few_names_that_agree_hide_nothing_of_the_rest(tmp_path: Path) -> None:
    """A shift that fits next to nothing would leave the file's other names unsaid."""
    other = {f"stage.{i}.{k}": v for i in range(4) for k, v in nn.Linear(7, 9).state_dict().items()}
    path = saved(tmp_path / "w.pt", other | {"deep.blocks.0.norm.weight": torch.ones(3)})
    message = refusal(net(2), path)
    assert "holds stage.0.weight, stage.0.bias" in message and "has a name of net.py:build" in message
    lightning = {f"net.{k}": v for k, v in net(1, classes=9).state_dict().items()} | {"loss.w": torch.ones(9)}
    message = refusal(net(2), saved(tmp_path / "l.pt", lightning))
    assert "head.weight has shape (9, 4), net.py:build expects (5, 4)" in message


def test_keys_and_shapes_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    state = net(1).state_dict()
    few = saved(tmp_path / "few.pt", {k: v for k, v in state.items() if "blocks.1.conv" not in k})
    assert refusal(net(2), few) == (
        f"{few}: does not fit net.py:build: 14 of 16 tensors are there; "
        "2 missing (blocks.1.conv.weight, blocks.1.conv.bias); build the network as it was trained "
        "(--set NAME=VALUE)"
    )
    more = saved(tmp_path / "more.pt", {**state, "aux.weight": torch.ones(2), "aux.bias": torch.ones(2)})
    assert "2 unexpected (aux.weight, aux.bias)" in refusal(net(2), more)
    assert "build the network as it was trained (--set NAME=VALUE)" in refusal(net(2), more)
    wide = refusal(net(2, classes=10), saved(tmp_path / "w.pt", state))
    assert "head.weight has shape (5, 4), net.py:build expects (10, 4); 1 more differ (head.bias)" in wide
    whole = {k: v.int() if k == "head.bias" else v for k, v in state.items()}
    assert "head.bias holds torch.int32" in refusal(net(2), saved(tmp_path / "i.pt", whole))
    stranger = saved(tmp_path / "s.pt", {"x": torch.ones(2), "y": torch.ones(3)})
    assert "none of its 2 tensors has a name of net.py:build: it holds x, y" in refusal(net(2), stranger)
    bad = {k: v / 0 if k == "head.bias" else v for k, v in state.items()}
    assert "head.bias holds 5 NaN or infinite" in refusal(net(2), saved(tmp_path / "n.pt", bad))
    empty = saved(tmp_path / "e.pt", {"epoch": 3, "args": {"lr": 0.1}})
    assert "holds no weights, only epoch (int), args (dict)" in refusal(net(2), empty)
    assert "--weights-key args is a dict, must be a dict of tensors; the file has no" in refusal(
        net(2), empty, "args"
    )
    assert "holds a list, must hold a dict" in refusal(net(2), saved(tmp_path / "l.pt", [1]))


class Leaky(nn.Module):
    """As frameworks write neurons: constants and the membrane are buffers."""

    def __init__(self, membrane: torch.Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(1.0))
        self.register_buffer("reset_kind", torch.tensor(2))
        if membrane is not None:
            self.register_buffer("mem", membrane)
        self.beta = nn.Parameter(torch.tensor(0.9))


def test_state_that_frameworks_store_is_no_weight(tmp_path: Path) -> None:
    """The last batch's membranes are left out, whatever their shape; constants of a newer release stay."""
    theirs = nn.ModuleDict({"fc": nn.Linear(3, 4), "lif": Leaky(torch.rand(7, 4))})
    theirs["lif"].threshold.fill_(0.5)
    path = saved(tmp_path / "w.pt", theirs.state_dict())
    told = "state of neurons in the file, not weights, left out: lif.mem"
    for membrane in (torch.zeros(0), torch.zeros(7, 4), None):
        mine = nn.ModuleDict({"fc": nn.Linear(3, 4), "lif": Leaky(membrane)})
        assert fit_weights(mine, path) == (told,)
        assert torch.equal(mine["fc"].weight, theirs["fc"].weight) and mine["lif"].threshold == 0.5
        assert membrane is None or torch.equal(mine["lif"].mem, membrane)
    older = {k: v for k, v in theirs.state_dict().items() if k not in ("lif.mem", "lif.reset_kind")}
    mine = nn.ModuleDict({"fc": nn.Linear(3, 4), "lif": Leaky(torch.zeros(0))})
    notes = fit_weights(mine, saved(tmp_path / "o.pt", older))
    assert notes == ("not in the file, left as built: lif.reset_kind = 2",)


def test_a_parameter_is_a_weight_whatever_its_name(tmp_path: Path) -> None:
    theirs = nn.Module()
    theirs.mem = nn.Parameter(torch.rand(3))
    mine = nn.Module()
    mine.mem = nn.Parameter(torch.zeros(3))
    assert fit_weights(mine, saved(tmp_path / "w.pt", theirs.state_dict())) == ()
    assert torch.equal(mine.mem, theirs.mem)


def test_counters_of_norms_are_not_needed(tmp_path: Path) -> None:
    theirs, mine = net(1), net(2)
    state = {k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    notes = fit_weights(mine, saved(tmp_path / "w.pt", state))
    assert notes == ("num_batches_tracked of 2 norms is on one side only: not needed at inference",)
    assert torch.equal(mine.blocks[1].norm.running_var, theirs.blocks[1].norm.running_var)
    without = {k: v for k, v in theirs.state_dict().items() if "running_var" not in k}
    assert "2 missing (blocks.0.norm.running_var" in refusal(net(2), saved(tmp_path / "v.pt", without))


def test_lazy_layers_take_their_shape_from_the_file(tmp_path: Path) -> None:
    theirs = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    path = saved(tmp_path / "w.pt", theirs.state_dict())
    mine = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    fit_weights(mine, path)
    assert torch.equal(mine[0].weight, theirs[0].weight)
    code = "from torch import nn\nbuild = lambda: nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))\n"
    (tmp_path / "net.py").write_text(code)
    spec = f"{tmp_path / 'net.py'}:build"
    assert same(load_own(spec, path=path).module, theirs)
    with pytest.raises(ConfigError, match=r"0\.weight, 0\.bias of a lazy layer has no shape yet"):
        load_own(spec)


def test_a_class_list_in_the_file_is_kept_and_the_file_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\ndef build(n=2):\n    return nn.Linear(n, 3)\n")
    spec = f"{tmp_path / 'net.py'}:build"
    content = {"model": nn.Linear(4, 3).state_dict(), "class_names": ["a", "b", "c"]}
    loaded = load_own(spec, {"n": 4}, saved(tmp_path / "w.pt", content))
    assert loaded.class_names == ["a", "b", "c"] and loaded.settings == {"n": 4}
    with pytest.raises(CheckpointError, match=r"asks to import torch\.nn\.modules\.linear\.Linear"):
        load_own(spec, {"n": 4}, saved(tmp_path / "m.pt", nn.Linear(4, 3)))
    with pytest.raises(ConfigError, match="there is no checkpoint to look into"):
        load_own(spec, weights_key="model")


class Extra(nn.Linear):
    """Keeps more than tensors in its state dict."""

    scale: object = None

    def get_extra_state(self) -> object:
        return {"scale": self.scale}

    def set_extra_state(self, state: object) -> None:
        self.scale = state["scale"]  # type: ignore[index]


def test_what_is_no_tensor_comes_along_where_the_network_keeps_it(tmp_path: Path) -> None:
    theirs, mine = Extra(3, 2), Extra(3, 2)
    theirs.scale = 0.25
    fit_weights(mine, saved(tmp_path / "w.pt", theirs.state_dict()))
    assert mine.scale == 0.25 and torch.equal(mine.weight, theirs.weight)
    wrapped = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    mine = Extra(3, 2)
    fit_weights(mine, saved(tmp_path / "m.pt", wrapped))
    assert mine.scale == 0.25
    plain = {k: v for k, v in theirs.state_dict().items() if isinstance(v, torch.Tensor)}
    mine = Extra(3, 2)
    fit_weights(mine, saved(tmp_path / "p.pt", plain))
    assert mine.scale is None and torch.equal(mine.weight, theirs.weight)


def test_safetensors_are_read_and_damaged_ones_refused(tmp_path: Path) -> None:
    theirs, mine = net(1), net(2)
    path = tmp_path / "w.safetensors"
    save_file(prefixed(theirs.state_dict(), "model."), path)
    assert fit_weights(mine, path) == ("names in the file fit with 'model.' taken off",)
    assert same(mine, theirs)
    for damaged in (path.read_bytes()[:-9], b"\x09" + path.read_bytes()[1:], b"not one"):
        path.write_bytes(damaged)
        assert "is not a safetensors file" in refusal(net(2), path)


def test_load_takes_a_network_or_the_code_that_builds_it(tmp_path: Path) -> None:
    theirs = net(1)
    path = saved(tmp_path / "w.pt", theirs.state_dict())
    mine = net(2).train()
    assert snn_energy.load(path, model=mine) is mine
    assert same(mine, theirs) and not mine.training
    (tmp_path / "net.py").write_text("from torch import nn\ndef build(n=2):\n    return nn.Linear(n, 3)\n")
    linear = nn.Linear(4, 3)
    wrapped = saved(tmp_path / "l.pt", {"net": linear.state_dict()})
    with pytest.warns(UserWarning, match="weights taken from 'net'"):
        loaded = snn_energy.load(wrapped, model=f"{tmp_path / 'net.py'}:build", settings={"n": 4})
    assert torch.equal(loaded.weight, linear.weight)
    taken = snn_energy.load(
        wrapped, model=f"{tmp_path / 'net.py'}:build", settings={"n": 4}, weights_key="net"
    )
    assert torch.equal(taken.weight, linear.weight)
