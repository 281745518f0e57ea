"""The recipes of the papers: each trains a step on small files of the true format; what they say."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from official_configs import FILES, text_of
from PIL import Image
from published_files import write_cifar

from snn_energy.models.zoo import create_model
from snn_energy.training import Recipe, list_recipes, load_recipe
from snn_energy.training.loop import initial_model, recipe_data
from snn_energy.training.official import read_official
from snn_energy.training.recipe import about_recipe
from snn_energy.training.run import Run
from snn_energy.training.watch import Stopped, Watch

PAPERS = [name for name in list_recipes() if not name.startswith(("digits", "fashion"))]
SMALL = ("batch_size=4", "workers=0", "amp=false")
NARROW = {
    "statten": ("embed_dims=16", "num_heads=2", "depths=1", "mlp_ratios=1"),
    "staa": ("width=0.015625",),
    "decoupled": ("width=0.0625",),
}
RATES = {"cifar10-512": 96.03, "cifar100-512": 79.85, "imagenet-512": 76.18, "imagenet-768": 78.11}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of all data sets: pictures of 32×32 and larger, frames of 16×16, a few of every class."""
    root = tmp_path_factory.mktemp("data")
    parts = [f"data_batch_{i}" for i in range(1, 6)]
    write_cifar(root / "cifar10", {p: [3, 1, 4] for p in parts} | {"test_batch": [5, 9]}, list("abcdefghij"))
    write_cifar(root / "cifar100", {"train": [99, 5, 50, 7, 7], "test": [3]}, [f"c{i}" for i in range(100)],
                fine=True)  # fmt: skip
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("n01", "n02"):
            (root / "imagenet" / part / name).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (40 + i, 60, 3), np.uint8)
                Image.fromarray(pixels).save(root / "imagenet" / part / name / f"{i}.JPEG")
    for kind, names in (("cifar10-dvs", "ab"), ("ncaltech101", "ab"), ("dvs-gesture", "ab")):
        for steps in (10, 16):
            place = root / kind / f"frames_number_{steps}_split_by_number"
            for part in ("train", "test") if kind == "dvs-gesture" else ("",):
                for name in names:
                    (place / part / name).mkdir(parents=True)
                    for i in range(10 if not part else 3):
                        frames = rng.integers(0, 3, (steps, 2, 16, 16)).astype(np.float32)
                        np.savez(place / part / name / f"{i}.npz", frames=frames)
    return root


def small(recipe: Recipe, root: Path) -> Recipe:
    """The same run on small files, of small pictures."""
    kind = recipe.data.partition(":")[0]
    sizes = {"imagenet": "?size=32&crop=0.95", "cifar10-dvs": "?size=16", "ncaltech101": "?size=16"}
    return dataclasses.replace(recipe, data=f"{kind}:{root / kind}{sizes.get(kind, '')}")


def one_step(recipe: Recipe) -> None:
    """A batch is drawn, varied and learnt from; every parameter that has a gradient moves."""
    torch.manual_seed(0)
    model = initial_model(recipe)
    run = Run(recipe, model, recipe_data(recipe, getattr(model.config, "T", None)), torch.device("cpu"))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    model.train()
    x, y = next(run._batches())
    assert x.shape == (4, *run.data.train.shape)
    if recipe.mixes:
        torch.testing.assert_close(y.sum(1), torch.ones(4))
    run.schedule.step_update(0)
    start = recipe.min_lr if recipe.warmup_lr is None else recipe.warmup_lr
    assert run.lr == pytest.approx(start), "it warms up from there"
    run.schedule.step_update(20 * run.steps)
    moved_at = run.lr
    run.schedule.step_update = lambda updates: None  # type: ignore[method-assign]
    run.batch(x, y, Watch("10m"))
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved_at > 0 and run.updates == 1 and np.isfinite(run.at.loss)
    assert any(name.startswith("head") for name in moved) and len(moved) > len(before) / 3


@pytest.mark.parametrize("name", [name for name in PAPERS if not name.startswith("staa-fig3-beta-0")])
def test_every_recipe_trains_a_step(name: str, files: Path) -> None:
    family = name.split("-")[0]
    one_step(small(load_recipe(name, (*SMALL, *NARROW[family])), files))


@pytest.mark.parametrize("name", FILES)
def test_every_official_file_trains_a_step(name: str, files: Path, tmp_path: Path) -> None:
    path = tmp_path / "file.yml"
    path.write_text(text_of(name))
    found = read_official(path, {"data_dir": str(files)}, (*SMALL, *NARROW["statten"]))
    groups = (found.honoured, found.off, found.without_effect)
    said = [key for group in groups for key in group]
    assert sorted(said) == sorted({*FILES[name], "data_dir"}), "every key is in one group"
    one_step(small(found.recipe, files))


OURS = {
    "cifar10/2_256_200E_t4": "statten-cifar10-256",
    "cifar10/2_512_200E_t4": "statten-cifar10-512",
    "cifar100/2_512_200E_t4": "statten-cifar100-512",
    "cifar10-dvs/2_256_200E_t10_TET": "statten-cifar10dvs-t10",
    "cifar10-dvs/2_256_200E_t16_TET": "statten-cifar10dvs-t16",
    "ncaltech101/2_256_200E_t16": "statten-ncaltech101-t16",
    "imagenet/8_512_200E_t4": "statten-imagenet-512",
    "imagenet/8_768_200E_t4": "statten-imagenet-768",
}


@pytest.mark.parametrize("name", OURS)
def test_our_recipe_is_the_official_file(name: str, tmp_path: Path) -> None:
    """Value for value, but for what the file says and does without effect."""
    path = tmp_path / "file.yml"
    path.write_text(text_of(name))
    theirs, ours = read_official(path, {"data_dir": "data"}).recipe, load_recipe(OURS[name])
    same = {"name", "model", "config", "workers", "crop_scale", "crop_ratio", "interpolation"}
    if theirs.crop_scale == [1.0, 1.0]:  # which crops nothing
        assert theirs.crop_ratio == [1.0, 1.0] and ours.crop_scale is None
    else:
        same -= {"crop_scale", "interpolation"}
    same |= set() if theirs.mixes else {"mix_prob", "mix_mode", "mix_off_epoch", "mix_switch_prob"}
    same |= set() if theirs.loss == "tet" else {"tet_lamb", "tet_means"}
    for field in dataclasses.fields(Recipe):
        if field.name not in same:
            assert getattr(ours, field.name) == getattr(theirs, field.name), field.name
    model = create_model(ours.model, **ours.config).config
    with torch.device("meta"):
        assert create_model("statten", **theirs.config).config == model


def test_what_recipes_say_of_their_networks_is_counted_on_them() -> None:
    """Parameters as built, and within what the papers round to; β leaves no trace in them."""
    counted: dict[str, int] = {}
    for name in list_recipes():
        about = about_recipe(name)
        if about.said.parameters is None:
            assert name not in PAPERS
            continue
        recipe = load_recipe(name)
        key = f"{recipe.model} {sorted(item for item in recipe.config.items() if item[0] != 'beta')}"
        if key not in counted:
            with torch.device("meta"):
                counted[key] = sum(
                    p.numel() for p in create_model(recipe.model, **recipe.config).parameters()
                )
        assert about.said.parameters == counted[key], name
        if about.said.published.parameters_m is not None:
            assert abs(about.said.parameters / 1e6 - about.said.published.parameters_m) < 0.015, name
    assert len(counted) > 30


def test_published_accuracies_have_their_source() -> None:
    for name in PAPERS:
        said = about_recipe(name).said.published
        assert (said.accuracy is None) == (not said.where), name
        assert said.accuracy is None or 60 < said.accuracy < 100
    for name, accuracy in RATES.items():
        assert about_recipe(f"statten-{name}").said.published.accuracy == accuracy
    words = str(about_recipe("staa-resnet19-cifar100-t2"))
    assert words == "cifar100, T 2, 14.21 M, 80.57 % (STAA-SNN paper, ResNet-19, T 2)"


def test_the_page_has_the_table_of_the_recipes() -> None:
    """`scripts/write_recipe_table` writes it."""
    root = Path(__file__).parents[2]
    script: dict = {"__name__": "script", "__file__": str(root / "scripts" / "write_recipe_table")}
    exec((root / "scripts" / "write_recipe_table").read_text(encoding="utf-8"), script)
    page = (root / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert script["table"]() in page, "run scripts/write_recipe_table"


@pytest.mark.parametrize("frames", [False, True])
def test_a_pair_of_npz_files_trains_varied(frames: bool, tmp_path: Path) -> None:
    """Images or frames of the user's, in a file each for training and testing."""
    rng = np.random.default_rng(0)
    shape = (3, 2, 8, 12) if frames else (2, 8, 12)
    for part, count in (("train", 8), ("test", 4)):
        np.savez(tmp_path / f"{part}.npz", x=rng.random((count, *shape)), y=np.arange(count) % 3)
    data = f"data=npz:{tmp_path / 'train.npz'},{tmp_path / 'test.npz'}"
    varied = ("event_augment=trivial",) if frames else ("crop_padding=2", "erase_prob=0.5")
    fields = ("config.in_channels=2", "T=3", "num_classes=3", "width=0.015625", "warmup_epochs=0", *varied)
    recipe = load_recipe("digits-staa-resnet20", (data, "hflip=0.5", "mixup=0.5", *fields, *SMALL))
    model = initial_model(recipe)
    run = Run(recipe, model, recipe_data(recipe, 3), torch.device("cpu"))
    x, y = next(run._batches())
    run.batch(x, y, Watch("10m"))
    assert run.updates == 1 and np.isfinite(run.at.loss) and x.shape == (4, *shape)


def test_a_run_that_varies_and_mixes_goes_on_as_it_would_have(files: Path) -> None:
    """Stopped within an epoch and restored: the same samples, mixed alike, the same weights to the bit."""
    recipe = load_recipe("statten-cifar10-256", (*SMALL, *NARROW["statten"], "lr=0.01", "warmup_lr=0.01"))
    recipe = dataclasses.replace(small(recipe, files), mix_off_epoch=1)

    def begun() -> Run:
        torch.manual_seed(0)
        model = initial_model(recipe)
        return Run(recipe, model, recipe_data(recipe, None), torch.device("cpu"))

    def nothing(*_: object) -> None: ...

    whole = begun()
    assert whole.batches == 3 and len(whole.data.train) == 15, "the last three samples make no batch"
    for _ in range(2):
        whole.epoch(Watch("10m"), nothing, nothing)
        whole.next_epoch()
    first, watch = begun(), Watch("10m")

    def stop(step: object) -> None:
        watch.stop = True

    with pytest.raises(Stopped):
        first.epoch(watch, nothing, stop)
    assert 0 < first.at.batch < 3 and first.updates == first.at.batch
    again = begun()
    again.restore(plain(first.state()))
    for _ in range(2):
        again.epoch(Watch("10m"), nothing, nothing)
        again.next_epoch()
    assert again.updates == whole.updates == 6
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def plain(state: dict) -> dict:
    """A state as a file gives it: records as tables, tensors of its own."""
    return copy.deepcopy({**state, "at": dataclasses.asdict(state["at"])})
