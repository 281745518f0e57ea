"""Old import names exist inside the context, as they were, and nowhere else."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from users_files import TRANSFORMER, run

from snn_energy.compat import old_names
from snn_energy.compat.idle import IDLE
from snn_energy.errors import ConfigError, OldNameError

OLD = ("spikingjelly.clock_driven", "spikingjelly.cext", *IDLE)


def left_behind() -> list[str]:
    return [name for name in sys.modules if name.startswith(OLD)]


def imported(statement: str) -> dict[str, Any]:
    """What a statement binds inside the context."""
    bound: dict[str, Any] = {}
    with old_names():
        exec(statement, bound)
    return bound


# --- on and off ---------------------------------------------------------------------------------------------


def test_import_of_the_package_switches_nothing_on_and_timm_is_patched_when_it_comes(tmp_path: Path) -> None:
    """In a process of its own, with a stand-in for timm that registers as timm 1 does."""
    code = """
        import importlib.util, sys
        import snn_energy, snn_energy.compat, snn_energy.checkpoints
        from spikingjelly.activation_based import neuron
        for name in ("spikingjelly.clock_driven", "spikingjelly.cext"):
            assert importlib.util.find_spec(name) is None and name not in sys.modules, name
        assert "einops" not in sys.modules
        try:
            neuron.IFNode(backend="torch")
        except TypeError:
            print("as it was")
        with snn_energy.compat.old_names():
            assert "timm" not in sys.modules
            from timm.models import create_model, register_model
            @register_model
            def tiny(width=3, **kwargs):
                return width, kwargs
            assert create_model("tiny", width=None, depth=2) == (3, {"pretrained": False, "depth": 2})
        import timm
        assert timm.models.create_model is timm.create_model is not create_model
        assert timm.create_model("tiny") is timm.register_model(tiny) is None
        assert type(timm.__spec__.loader).__module__.startswith("_frozen_importlib")
        assert timm.__loader__ is timm.__spec__.loader
        print("put back")
    """
    (tmp_path / "timm" / "models").mkdir(parents=True)
    (tmp_path / "timm" / "models" / "__init__.py").write_text(
        "def create_model(*args, **kwargs): ...\ndef register_model(function): ...\n"
    )
    (tmp_path / "timm" / "__init__.py").write_text("from timm.models import create_model, register_model\n")
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.stdout == "as it was\nput back\n", done.stderr


def state_of_the_libraries() -> list[Any]:
    """Everything that the context touches outside `sys.modules`."""
    import timm
    from spikingjelly.activation_based import base, functional, layer, neuron, surrogate

    classes = [getattr(neuron, name) for name in ("BaseNode", "IFNode", "LIFNode", "KLIFNode", "QIFNode")]
    classes += [surrogate.SurrogateFunctionBase, layer.StepModeContainer, base.MemoryModule]
    owners = [functional, surrogate, layer, neuron, timm, timm.models, sys.modules["spikingjelly"]]
    names = [sorted(vars(owner)) for owner in owners]
    functions = [timm.create_model, timm.models.create_model, timm.models.register_model]
    return [*names, *functions, *[cls.__init__ for cls in classes], list(sys.meta_path), timm.list_models()]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left(fails: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own shim of an old path
        theirs = importlib.import_module("timm.models.layers")
    before, modules = state_of_the_libraries(), set(sys.modules)
    try:
        with old_names():
            run(tmp_path, TRANSFORMER)
            importlib.import_module("spikingjelly.cext.neuron")
            ours = importlib.import_module("timm.models.layers")
            assert importlib.import_module("timm.models").layers is ours is not theirs
            assert "spikingjelly.clock_driven.neuron" in left_behind()
            if fails:
                raise RuntimeError("the builder's")
    except RuntimeError as error:
        assert fails and str(error) == "the builder's"
    assert left_behind() == []
    assert {n for n in set(sys.modules) - modules if not n.startswith("snn_energy.")} == set()
    assert sys.modules["timm.models.layers"] is theirs is importlib.import_module("timm.models").layers
    assert state_of_the_libraries() == before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("spikingjelly.clock_driven")


def test_contexts_nest_and_give_the_same_classes() -> None:
    with old_names():
        with old_names():
            first = importlib.import_module("spikingjelly.clock_driven.neuron").MultiStepLIFNode
        assert importlib.import_module("spikingjelly.clock_driven.neuron").MultiStepLIFNode is first
    assert left_behind() == []
    with old_names():
        assert importlib.import_module("spikingjelly.clock_driven.neuron").MultiStepLIFNode is first


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "from spikingjelly.clock_driven import neuron, layer, functional, surrogate, encoding, base, rnn",
        "import spikingjelly.clock_driven as c; c.layer.SeqToANNContainer, c.functional.reset_net",
        "from spikingjelly.clock_driven.neuron import *; MultiStepParametricLIFNode, EIFNode",
        "from spikingjelly.clock_driven.layer import *; MultiStepDropout, SynapseFilter, NeuNorm",
        "from spikingjelly.clock_driven.encoding import PoissonEncoder; from spikingjelly.cext import neuron",
        "from timm.models.layers import DropPath, to_2tuple, trunc_normal_; import timm.models.layers.drop",
        "from timm.models.layers.weight_init import trunc_normal_, lecun_normal_",
        "from timm.models.registry import register_model, is_model; import timm.models.factory",
        "from timm.models.helpers import build_model_with_cfg, clean_state_dict, load_checkpoint",
        "from timm.models.vision_transformer import _cfg; import timm.optim.optim_factory",
        "from einops.layers.torch import Rearrange; import torchinfo; torchinfo.summary",
    ],
)
def test_names_that_files_import(statement: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(imported(statement)) > 1


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("from spikingjelly.clock_driven.layer import DCT", "clock_driven.layer.DCT: .* gives .* in all"),
        ("from spikingjelly.clock_driven.neuron import LIFNod", "gives BaseNode, EIFNode, IFNode"),
        ("import spikingjelly.clock_driven.neuron_kernel", "clock_driven gives base, encoding, functional"),
        ("from spikingjelly.clock_driven import cu_kernel_opt", "clock_driven.cu_kernel_opt: an old name"),
        ("from spikingjelly.cext import layer", "cext.layer: an old name without an alias here; .* neuron"),
        ("import spikingjelly.event_driven.neuron", "spikingjelly.event_driven: an old name"),
        ("from timm.models.layers import FooPath", "timm.models.layers.FooPath: .* gives"),
        ("import einops; einops.rearrange(1, 'a')", "einops.rearrange: is called, .* pip install einops"),
    ],
)
def test_a_name_that_is_not_given_is_one_line(statement: str, words: str) -> None:
    with pytest.raises(OldNameError, match=words) as caught:
        imported(statement)
    assert isinstance(caught.value, ConfigError) and isinstance(caught.value, ImportError)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_names_that_some_files_only_try(tmp_path: Path) -> None:
    text = """
        try:
            from spikingjelly.clock_driven import neuron_kernel
        except ImportError:
            neuron_kernel = None
    """
    with old_names():
        assert run(tmp_path, text).neuron_kernel is None


# --- layers -------------------------------------------------------------------------------------------------


def test_containers_and_dropouts(tmp_path: Path) -> None:
    layer = imported("from spikingjelly.clock_driven import layer; layer.Dropout")["layer"]
    torch.manual_seed(0)
    x = torch.rand(4, 2, 3, 5, 6)
    conv, norm = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2).eval()
    held = layer.SeqToANNContainer(conv, norm)
    assert torch.equal(held(x), norm(conv(x.flatten(0, 1))).unflatten(0, (4, 2)))
    assert next(iter(held.state_dict())) == "0.weight"
    stepped = layer.MultiStepContainer(nn.Flatten(), nn.Linear(90, 7))
    assert torch.equal(stepped(x), torch.stack([stepped[1](step.flatten(1)) for step in x]))
    whole, channels = layer.MultiStepDropout(), layer.MultiStepDropout2d()
    assert (whole.p, channels.p, layer.Dropout2d().p) == (0.5, 0.5, 0.2)
    for dropout in (whole, channels):
        mask = dropout.train()(torch.ones_like(x))
        assert all(torch.equal(mask[0], step) for step in mask) and set(mask.unique().tolist()) == {0.0, 2.0}
    assert len(mask[0].flatten(2).unique(dim=2)[0, 0]) == 1  # whole channels
    tdbn = layer.MultiStepThresholdDependentBatchNorm2d(0.5, 2.0, 3).eval()
    assert torch.equal(
        tdbn(x),
        nn.functional.batch_norm(
            x.flatten(0, 1), tdbn.running_mean, tdbn.running_var, torch.full((3,), 1.0), tdbn.bias
        ).unflatten(0, (4, 2)),
    )
    assert torch.equal(tdbn.weight, torch.full((3,), 1.0))


def test_containers_beside_cext_name_their_layers_as_its_checkpoints_do(tmp_path: Path) -> None:
    text = """
        from torch import nn
        from spikingjelly.clock_driven import layer
        {}

        def build():
            return nn.Sequential(
                layer.SeqToANNContainer(nn.Conv2d(3, 2, 3, bias=False), nn.BatchNorm2d(2)),
                neuron.MultiStepIFNode(detach_reset=True),
                layer.SeqToANNContainer(nn.MaxPool2d(2)),
            )
    """
    with old_names():
        early = run(tmp_path, text.format("from spikingjelly.cext import neuron"), "early").build()
        assert early[0].module[1].weight.shape == (2,)
    with old_names():
        late = run(tmp_path, text.format("from spikingjelly.clock_driven import neuron"), "late").build()
    assert [key.replace(".module", "") for key in early.state_dict()] == list(late.state_dict())
    assert "0.module.0.weight" in early.state_dict() and "0.0.weight" in late.state_dict()
    late.load_state_dict({key.replace(".module", ""): v for key, v in early.state_dict().items()})
    x = 4 * torch.rand(5, 2, 3, 6, 8)
    assert torch.equal(early.eval()(x), late.eval()(x))
