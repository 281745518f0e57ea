"""`--model FILE.py:CALLABLE`: what is imported, how it is called, and one clear line for every mistake."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.own import build_own, load_builder

NET = """\
from torch import nn

class Net(nn.Module):
    def __init__(self, width=5, classes=3):
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(x)

def build(T, num_classes=3, *, name="plain"):
    net = Net(classes=num_classes)
    net.T, net.name = T, name
    return net

READY = Net(width=2)
NUMBER = 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one; modules of an earlier test are no hindrance."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(spec: object, **settings: object) -> str:
    with pytest.raises(ConfigError) as caught:
        build_own(str(spec), settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def surroundings() -> tuple[object, ...]:
    return (
        list(sys.path),
        list(sys.argv),
        os.getcwd(),
        sys.dont_write_bytecode,
        sys.stdout,
    )


def test_a_function_a_class_and_a_ready_network(folder: Path) -> None:
    write(folder / "net.py", NET)
    net = build_own("net.py:build", {"T": 6, "num_classes": 4, "name": "other"})
    assert (net.T, net.name, net.fc.out_features, net.training) == (6, "other", 4, False)
    assert build_own(f"{folder / 'net.py'}:Net", {"width": 8}).fc.in_features == 8
    assert build_own("net.py:READY").fc.in_features == 2
    assert build_own("./net.py:Net").fc.in_features == 5
    assert load_builder("net.py:build").__name__ == "build"
    assert [p.name for p in folder.iterdir()] == ["net.py"], "bytecode or something else was left"


def test_random_weights_are_the_same_every_time_and_streams_go_on(folder: Path) -> None:
    write(folder / "net.py", NET)
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    first, second = (build_own("net.py:Net") for _ in range(2))
    assert torch.equal(first.fc.weight, second.fc.weight)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1]) and random.random() == expected[2]


def test_siblings_are_found_while_it_is_imported_and_built(folder: Path) -> None:
    code = "import helper\ndef build():\n    from late import Late\n    return Late(helper.width())\n"
    write(folder / "deep" / "er" / "net.py", code)
    write(folder / "deep" / "er" / "helper.py", "def width():\n    return 11\n")
    late = "from torch import nn\nclass Late(nn.Module):\n    def __init__(self, n):\n"
    write(folder / "deep" / "er" / "late.py", late + "        super().__init__()\n        self.n = n\n")
    before = surroundings()
    net = build_own("deep/er/net.py:build")
    assert net.n == 11
    assert surroundings() == before
    assert sys.modules[type(net).__module__].Late is type(net), "pickle and others look classes up there"


def test_two_networks_with_files_of_the_same_names(folder: Path) -> None:
    """As two clones of repositories have them; and an edited file is read anew."""
    for name, width in (("one", 3), ("two", 4)):
        write(folder / name / "net.py", "from parts import width\n" + NET + "\nmake = lambda: Net(width)\n")
        write(folder / name / "parts.py", f"width = {width}\n")
    assert [build_own(f"{n}/net.py:make").fc.in_features for n in ("one", "two", "one")] == [3, 4, 3]
    write(folder / "one" / "parts.py", "width = 9\n")
    assert build_own("one/net.py:make").fc.in_features == 9


def test_modules_that_were_there_first_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's own `pieces` is not the network's, and is the notebook's afterwards."""
    write(folder / "book" / "pieces.py", "width = 100\n")
    monkeypatch.syspath_prepend(folder / "book")
    import pieces

    write(folder / "repo" / "net.py", "from pieces import width\n" + NET + "\nmake = lambda: Net(width)\n")
    write(folder / "repo" / "pieces.py", "width = 4\n")
    assert build_own("repo/net.py:make").fc.in_features == 4
    assert sys.modules["pieces"] is pieces
    write(folder / "book" / "pieces.py", NET)
    made = build_own("book/pieces.py:Net")
    assert type(made).__module__ == "pieces" and sys.modules["pieces"] is pieces
    monkeypatch.delitem(sys.modules, "pieces")


def test_a_file_named_like_a_module_of_pythons(folder: Path) -> None:
    write(folder / "profile.py", NET)
    write(folder / "torch.py", NET)
    import profile

    assert build_own("profile.py:Net").fc.in_features == 5
    assert build_own("torch.py:Net").fc.in_features == 5
    assert sys.modules["profile"] is profile and sys.modules["torch"] is torch


def test_a_module_by_its_dotted_name_in_the_current_folder(folder: Path) -> None:
    write(folder / "ownlib" / "__init__.py", "")
    write(folder / "ownlib" / "nets.py", NET)
    assert build_own("ownlib.nets:Net", {"classes": 7}).fc.out_features == 7
    assert isinstance(build_own("torch.nn:Linear", {"in_features": 3, "out_features": 2}), nn.Linear)
    assert "no module 'ownlib.nest'" in refusal("ownlib.nest:Net")
    assert "no module 'nolib'" in refusal("nolib.nets:Net") and "PATH.py:NAME" in refusal("nolib.nets:Net")


@pytest.mark.parametrize("packaged", [True, False])
def test_a_file_with_relative_imports_belongs_to_its_package(folder: Path, packaged: bool) -> None:
    write(folder / "repo" / "nets" / "main.py", "from .parts import width\nfrom ..common import one\n" + NET)
    write(folder / "repo" / "nets" / "parts.py", "width = 3\n")
    write(folder / "repo" / "common.py", "one = 1\n")
    if packaged:
        write(folder / "repo" / "nets" / "__init__.py", "")
        write(folder / "repo" / "__init__.py", "")
    assert build_own("repo/nets/main.py:Net").fc.in_features == 5


def test_a_repository_is_run_from_its_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`model/net.py` imports `modules/part.py` as `modules.part`: found from the root, else told."""
    write(
        folder / "repo" / "model" / "net.py",
        "from modules.part import width\n" + NET + "make = lambda: Net(width)",
    )
    write(folder / "repo" / "modules" / "part.py", "width = 12\n")
    message = "no module 'modules' (repo/model/net.py:1): run the command in repo, where modules is"
    assert message in refusal("repo/model/net.py:make")
    monkeypatch.chdir(folder / "repo")
    assert build_own("model/net.py:make").fc.in_features == 12


@pytest.mark.parametrize("spec", ["model/net.py:Net", "model.net:Net"])
def test_what_lies_around_is_not_run(folder: Path, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that tries an optional import does not find a file of the current folder."""
    write(
        folder / "site-packages" / "library.py", "try:\n    import h2\nexcept ImportError:\n    h2 = None\n"
    )
    monkeypatch.syspath_prepend(folder / "site-packages")
    write(folder / "h2.py", "raise RuntimeError('ran')\n")
    write(folder / "beside.py", "width = 1\n")
    write(folder / "model" / "net.py", "import library, beside\nassert library.h2 is None\n" + NET)
    assert build_own(spec).fc.in_features == 5
    sys.modules.pop("library")
    sys.modules.pop("beside")


def test_a_folder_of_the_name_of_an_installed_package_is_no_package(folder: Path) -> None:
    (folder / "torchvision").mkdir()
    write(folder / "torchvision" / "weights.txt", "none")
    assert type(build_own("torchvision.ops:Permute", {"dims": [0]})).__name__ == "Permute"


def test_a_forward_may_import_what_lies_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is built and run, and for the user's code alone."""
    code = "from torch import nn\n\nclass Lazy(nn.Module):\n    def forward(self, x):\n"
    write(
        folder / "repo" / "net.py", code + "        import beside_it\n        return x * beside_it.factor\n"
    )
    write(folder / "repo" / "beside_it.py", "factor = 3\n")
    finders = len(sys.meta_path)
    net, _ = build_own("repo/net.py:Lazy"), build_own("repo/net.py:Lazy")
    assert len(sys.meta_path) == finders + 1, "one finder for the folder, however often it is used"
    with pytest.raises(ModuleNotFoundError):
        import beside_it  # noqa: F401
    assert net(torch.ones(2)).tolist() == [3, 3]
    monkeypatch.delitem(sys.modules, "beside_it")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        write(folder / "bad" / "net.py", "1 / 0\n")
        build_own("bad/net.py:Lazy")
    assert len(sys.meta_path) == finders + 1


def test_annotations_of_the_users_code_are_its_own(folder: Path) -> None:
    """Data classes look their module up, and annotations are evaluated unless the file says otherwise."""
    code = "import dataclasses\nfrom torch import nn\n\n@dataclasses.dataclass\nclass Config:\n"
    code += "    width: int = 4\n"
    code += "\ndef build(width: int = 3):\n    return nn.Linear(Config(width).width, 2)\n"
    write(folder / "net.py", code)
    assert load_builder("net.py:build").__annotations__ == {"width": int}
    assert build_own("net.py:build").in_features == 3


def test_a_script_reads_no_arguments_and_prints_on_standard_error(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["snn-energy", "profile", "--model", "net.py:build"])
    code = (
        "import argparse, os\np = argparse.ArgumentParser()\np.add_argument('--width', type=int, default=6)\n"
    )
    code += (
        "args = p.parse_args()\nprint('hello')\nos.chdir('/')\n" + NET + "\nmake = lambda: Net(args.width)\n"
    )
    write(folder / "net.py", code + "\nif __name__ == '__main__':\n    raise RuntimeError('trains')\n")
    before = surroundings()
    assert build_own("net.py:make").fc.in_features == 6
    assert surroundings() == before
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("net.py", "say which callable builds the network, net.py:NAME; net.py defines Net, build"),
        ("net.py:", "net.py defines Net, build"),
        ("net.py:biuld", "has no 'biuld'; did you mean 'build'? known: Net, build"),
        ("net.py:Net.nothing", "has no 'Net.nothing'; known: Net, build"),
        ("net.py:NUMBER", "net.py:NUMBER is of type int, must be a function, a class or a network"),
        ("nte.py:build", "no file nte.py; did you mean 'net.py'?"),
        ("nowhere/net.py:build", "there is no .py file in nowhere"),
        ("sub/:build", "sub is a folder; its files: inner.py"),
        ("weights.pth:build", "weights.pth is not a Python file"),
        ("binary.py:build", "binary.py is not a Python file"),
        ("text.txt:build", "text.txt is not a Python file"),
        ("book.ipynb:build", "put the network into a .py file"),
        ("my-net:build", "'my-net' is neither a file nor a module"),
        ("os.path:", "say which callable of os.path builds the network"),
    ],
)
def test_a_name_that_means_no_callable(folder: Path, spec: str, message: str) -> None:
    write(folder / "net.py", NET)
    write(folder / "sub" / "inner.py", NET)
    torch.save({"a": torch.zeros(2)}, folder / "weights.pth")
    (folder / "binary.py").write_bytes(bytes(range(256)))
    write(folder / "text.txt", "these are words, not code")
    write(folder / "book.ipynb", "{}")
    assert message in refusal(spec)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import torch\n\ndef build(:\n    pass\n", "net.py:3: not Python (invalid syntax): def build(:"),
        ("import torch\nimport nothing_like_it\n", "no module 'nothing_like_it' (net.py:2): pip install"),
        ("from sib import x\n", "sib.py:2: not Python"),
        ("x = 1\ny = x / 0\n", "its import raised ZeroDivisionError: division by zero (net.py:2)"),
        ("from torch import Tensr\n", "its import raised ImportError: cannot import name 'Tensr'"),
        ("import sys\nsys.exit('no GPU')\n", "ended the program while it was imported (net.py:2)"),
        ("x = 1\n", "has no 'build', and defines no function or class"),
    ],
)
def test_a_file_that_cannot_be_imported(folder: Path, code: str, message: str) -> None:
    write(folder / "net.py", code)
    write(folder / "sib.py", "x = 1\ndef (\n")
    before, modules = surroundings(), set(sys.modules)
    assert message in refusal("net.py:build")
    assert surroundings() == before
    assert not {"net", "sib"} & (set(sys.modules) - modules), "a half-imported module stayed"


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        (
            "def build(width, depth, act='relu'):\n    pass\n",
            {"depth": 3},
            "net.py:build wants width: give --set width=…",
        ),
        (
            "def build(width):\n    pass\n",
            {"widht": 3},
            "no argument 'widht' (--set widht=…); did you mean 'width'?",
        ),
        ("def build():\n    pass\n", {"T": 3}, "no argument 'T' (--set T=…); it takes no arguments"),
        (
            "def build(T=1):\n    check(T)\n\ndef check(T):\n    assert T > 1, 'T must\\nbe above 1'\n",
            {},
            "net.py:build raised AssertionError: T must be above 1 (net.py:5, in check)",
        ),
        (
            "from torch import nn\ndef build(n):\n    return nn.Conv2d(n, 3, 3, groups=2)\n",
            {"n": 4},
            "raised ValueError: out_channels must be divisible by groups (net.py:3, in build)",
        ),
        ("def build():\n    raise SystemExit\n", {}, "net.py:build raised SystemExit (net.py:2, in build)"),
        ("def build():\n    pass\n", {}, "returned None, must return a torch.nn.Module (is its return"),
        (
            "from torch import nn\ndef build():\n    return nn.Linear\n",
            {},
            "returned the class Linear, must return a torch.nn.Module (return Linear(…))",
        ),
        (
            "from torch import nn\ndef build():\n    return 3, nn.Linear(2, 3)\n",
            {},
            "returned a tuple, must return a torch.nn.Module (item 1 of it is one",
        ),
        ("def build():\n    return {'a': 1}\n", {}, "returned a dict, must return a torch.nn.Module"),
        ("from torch import nn\nbuild = nn.Linear(2, 3)\n", {"T": 2}, "is a ready network: --set needs"),
    ],
)
def test_a_builder_that_builds_no_network(
    folder: Path, code: str, settings: dict[str, object], message: str
) -> None:
    write(folder / "net.py", code)
    assert message in refusal("net.py:build", **settings)


def test_arguments_of_every_kind_are_given_by_name(folder: Path) -> None:
    code = "from torch import nn\ndef build(a, /, b, *more, c=1, **rest):\n    net = nn.Linear(2, 3)\n"
    write(folder / "net.py", code + "    net.got = a, b, more, c, rest\n    return net\n")
    assert build_own("net.py:build", {"b": 2, "a": 1, "d": [4]}).got == (1, 2, (), 1, {"d": [4]})
