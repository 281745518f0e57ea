"""`snn-energy train -c OFFICIAL.yml`: a file as it is, its keys named once, a line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import refused, run
from official_configs import text_of
from published_files import write_cifar

from snn_energy.checkpoints import read_checkpoint
from snn_energy.errors import ConfigError
from snn_energy.training.official import read_official

TINY = ("embed_dims=16", "num_heads=2", "cooldown_epochs=0", "workers=0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    labels = {f"data_batch_{i}": [3, 1, 4] for i in range(1, 6)} | {"test_batch": [5, 9]}
    write_cifar(tmp_path / "data", labels, list("abcdefghij"))
    (tmp_path / "small.yml").write_text(text_of("cifar10/2_256_200E_t4"))
    return tmp_path


@pytest.mark.parametrize("flag", ["--attention-mode", "--attention_mode"])
def test_an_official_file_runs_with_the_flags_of_its_command_line(folder: Path, flag: str) -> None:
    flags = (
        "--data-dir",
        "data",
        "--model",
        "sdt",
        "--spike-mode",
        "plif",
        flag,
        "SDT",
        "-b",
        8,
        "-vb",
        2,
        "--epochs",
        1,
        "--lr",
        "2e-3",
    )
    done = run("train", "-c", "small.yml", *flags, *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("official keys without effect") == 1
    assert "color_jitter (yields to the policy aa, as in timm)" in done.stderr
    assert "use_conv_as_linear (reaches nothing in the official code)" in done.stderr
    assert "model-ema, model-ema-decay, channels-last (has a hyphen" in done.stderr
    stored = read_checkpoint(folder / "runs" / "small" / "best.pth")
    assert stored.config is not None and stored.recipe is not None
    assert stored.config["attention_mode"] == "SDT", "what the official trainer ignores is obeyed"
    assert stored.config["spike_mode"] == "plif"
    kept = {key: stored.recipe[key] for key in ("batch_size", "val_batch_size", "epochs", "lr", "mixup")}
    assert kept == {"batch_size": 8, "val_batch_size": 2, "epochs": 1, "lr": 2e-3, "mixup": 0.5}
    again = run("train", "-c", "small.yml", "--resume", *flags, *TINY)
    assert again.returncode == 0, again.stderr


def test_a_recipe_takes_the_folder_of_its_data(folder: Path) -> None:
    missing = refused("train", "statten-cifar10-256", "--data-dir", "elsewhere", *TINY)
    assert "elsewhere" in missing and "cs.toronto.edu" in missing
    assert "digits lies in no folder" in refused("train", "digits-statten", "--data-dir", "data")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("mixupp: 0.5", "unknown key 'mixupp'; did you mean 'mixup'?"),
        ("frobnicate: 1", "unknown key 'frobnicate'; official files have none of that name"),
        ("sched: step", "sched = 'step': must be 'cosine'; this trainer has no other"),
        ("bce_loss: true", "bce_loss = True: must be False"),
        ("lr_noise: [0.4, 0.9]", "lr_noise = [0.4, 0.9]: must be None"),
        ("dataset: torch/cifar1", "dataset = 'torch/cifar1': not here; did you mean 'torch/cifar10"),
        ("data_dir: ''", "data_dir is missing: say where the data lies (--data-dir DIR)"),
        ("img_size: 48", "img_size = 48: samples of cifar10 are 32×32"),
        ("opt: adagrad", "optimizer = 'adagrad'"),
        ("lr: null", "lr is empty: leave it out for 0.01, or give a value"),
        ("cutmix_minmax: 0.3", "cutmix_minmax = 0.3: must be a list of numbers"),
        ("lr: fast", "lr = 'fast': must be float"),
        ("model: sdtt", "knows only 'sdt'"),
        ("- 1", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_is_one_line(folder: Path, lines: str, message: str) -> None:
    key = lines.partition(":")[0]
    kept = [line for line in text_of("cifar10/2_256_200E_t4").splitlines() if line.partition(":")[0] != key]
    (folder / "odd.yml").write_text("\n".join([*kept, lines, ""]))
    with pytest.raises(ConfigError) as error:
        read_official(folder / "odd.yml")
    assert message in str(error.value) and "odd.yml" in str(error.value) and "\n" not in str(error.value)


def test_flags_that_do_not_go_together(folder: Path) -> None:
    assert "one too many" in refused("train", "-c", "small.yml", "digits-statten")
    assert "for a recipe write KEY=VALUE" in refused("train", "digits-statten", "--lr", "0.1")
    assert "no such file" in refused("train", "-c", "nowhere.yml")


def test_statistics_other_than_ours_and_hyphens_are_told(folder: Path) -> None:
    text = text_of("cifar100/2_512_200E_t4").replace("0.5071", "0.5").replace("mlp_ratio: 4", "mlp-ratio: 2")
    (folder / "odd.yml").write_text(text)
    found = read_official(folder / "odd.yml", {"data_dir": "data"})
    assert any(note.startswith("mean = [0.5, 0.4867, 0.4408]: not used") for note in found.notes)
    assert "mlp-ratio" in found.without_effect and found.recipe.config["mlp_ratios"] == 4


def test_event_files_and_their_flags(folder: Path) -> None:
    (folder / "odd.yml").write_text(text_of("ncaltech101/2_256_200E_t10"))
    found = read_official(folder / "odd.yml", {"data_dir": "d"})
    assert found.recipe.event_augment == "roll-rotate-shear" and not found.recipe.drop_last
    assert any("16 all the same" in note for note in found.notes)
    assert {"hflip", "scale", "ratio", "color_jitter"} <= set(found.without_effect)
    (folder / "odd.yml").write_text(text_of("cifar10-dvs/2_256_200E_t16_TET"))
    cut = read_official(folder / "odd.yml", {"dvs_aug": True, "dvs_trival_aug": True, "TET": False}).recipe
    assert (cut.event_augment, cut.event_cutout, cut.loss) == ("trivial", 16, "cross_entropy")
    assert cut.data == "cifar10-dvs:./data/" and cut.config["dvs_mode"]
