"""Event data as frames by number, in the folders of SpikingJelly: CIFAR10-DVS, N-Caltech101, DVS128 Gesture.

Where only the events lie, or the archives, SpikingJelly's own classes make the frames; nothing is downloaded.
"""

from __future__ import annotations

import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from snn_energy.data.folders import class_names, in_turn, list_classes
from snn_energy.data.parts import Data
from snn_energy.data.stream import Stream
from snn_energy.errors import DataError

FRAMES = "frames_number_{}_split_by_number"


@dataclass(frozen=True)
class EventRelease:
    """What tells the data sets apart.

    `cls`: module and name of SpikingJelly's class; `size`: to which frames are resized by
    `mode`, or None; `split`: there are folders `train` and `test`; `archive`: what SpikingJelly unpacks.
    """

    summary: str
    cls: tuple[str, str]
    size: int | None
    mode: str
    split: bool
    where: str
    archive: str


RELEASES = {
    "cifar10-dvs": EventRelease(
        "CIFAR10-DVS, T×2×64×64",
        ("cifar10_dvs", "CIFAR10DVS"),
        64,
        "bilinear",
        False,
        "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        "airplane.zip … truck.zip",
    ),
    "ncaltech101": EventRelease(
        "N-Caltech101, T×2×64×64",
        ("n_caltech101", "NCaltech101"),
        64,
        "nearest",
        False,
        "https://www.garrickorchard.com/datasets/n-caltech101",
        "Caltech101.zip",
    ),
    "dvs-gesture": EventRelease(
        "DVS128 Gesture, T×2×128×128",
        ("dvs128_gesture", "DVS128Gesture"),
        None,
        "bilinear",
        True,
        "https://research.ibm.com/interactive/dvsgesture",
        "DvsGesture.tar.gz",
    ),
}
TRAIN_SHARE = 0.9


@dataclass(frozen=True)
class Frames:
    """Reads a file of frames (T, 2, H, W), counts of events, resized to `size` by `mode`; not normalised.

    `bilinear`, from 128 to 64, is the mean of two by two, as torchvision resized a tensor when the networks
    were published; not antialiased otherwise either.
    """

    size: int | None
    mode: str

    def __call__(self, path: str, random: bool = False) -> torch.Tensor:
        x = torch.from_numpy(read_frames(Path(path)))
        if self.size is None or x.shape[-2:] == (self.size, self.size):
            return x
        extra = {} if self.mode == "nearest" else {"align_corners": False}
        return F.interpolate(x, (self.size, self.size), mode=self.mode, **extra)


def read_frames(path: Path) -> np.ndarray:
    """The array `frames` (T, 2, H, W) of the file, as float32.  Raises `DataError` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            frames = file.get("frames")
    except Exception as error:  # a damaged file can raise anything inside zlib and NumPy's reader
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not an .npz file of frames ({reason})") from None
    if frames is None:
        raise DataError(f"{path}: has no array 'frames'")
    if frames.ndim != 4 or frames.shape[1] != 2 or frames.dtype.kind not in "biuf":
        raise DataError(f"{path}: frames are {frames.dtype} {frames.shape}; must be numbers (T, 2, H, W)")
    return frames.astype(np.float32)


def load_events(
    name: str,
    folder: Path,
    release: EventRelease,
    *,
    steps: int | None = None,
    size: int | None = None,
    workers: int = 0,
) -> Data:
    """T = `steps` frames of each sample, resized to `size`, or as papers do.

    Without `steps`, those of which there is a folder.  Where the data set has no test part of its own, the
    training part is the first nine tenths of each class, rounded up, in the order of their file names.
    Raises `DataError` for what is missing or is not what it should be.
    """
    place = _frames_folder(name, folder, release, steps)
    reader = Frames(size or release.size, release.mode)
    roots = (place / "train", place / "test") if release.split else (place, place)
    names = class_names(roots[0]) if roots[0].is_dir() else ()
    if not names:
        raise DataError(f"{name}: {roots[0]} has no folders of classes")
    files = [list_classes(root, names, (".npz",)) for root in roots]
    if not release.split:
        shares = [math.ceil(TRAIN_SHARE * len(paths)) for paths in files[0]]
        if not any(len(paths) > n for paths, n in zip(files[1], shares, strict=True)):
            raise DataError(f"{name}: no class of {place} has ten files, as a tenth for testing needs")
        train = [paths[:n] for paths, n in zip(files[0], shares, strict=True)]
        files = [train, [paths[n:] for paths, n in zip(files[1], shares, strict=True)]]
    (paths, labels), (test_paths, test_labels) = (in_turn(part) for part in files)
    shape = tuple(reader(paths[0]).shape)
    told = re.fullmatch(FRAMES.format(r"(\d+)"), place.name)
    if told and shape[0] != int(told[1]):
        raise DataError(f"{paths[0]}: has {shape[0]} frames, its folder says {told[1]}")
    train_part = Stream(paths, labels, shape, reader, workers)
    return Data(name, train_part, Stream(test_paths, test_labels, shape, reader, workers), names)


def _frames_folder(name: str, folder: Path, release: EventRelease, steps: int | None) -> Path:
    """The folder with T frames of each sample, made where only events are there."""
    there = {}
    for place in folder.glob(FRAMES.format("*")):
        told = re.fullmatch(FRAMES.format(r"(\d+)"), place.name)
        if told and place.is_dir():
            there[int(told[1])] = place
    if steps is None:
        if len(there) > 1:
            found = ", ".join(map(str, sorted(there)))
            raise DataError(f"{name}: {folder} has frames for T = {found}: say which ({name}?T={min(there)})")
        steps = next(iter(there), None)
    if steps in there:
        return there[steps]
    sources = [folder / part for part in ("events_np", "extract", "download")]
    if not any(source.is_dir() for source in sources):
        wanted = folder / FRAMES.format(steps or "T")
        have = f" (there are T = {', '.join(map(str, sorted(there)))})" if there else ""
        raise DataError(
            f"{name}: {wanted} is missing{have}; put {release.archive} from {release.where} into "
            f"{folder / 'download'}, or SpikingJelly's frames there"
        )
    if steps is None:
        raise DataError(f"{name}: how many frames of the events in {folder}? say T ({name}?T=10)")
    try:
        return make_frames(folder, release, steps)
    except Exception as error:  # damaged files can raise anything inside their readers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: frames could not be made of the events in {folder} ({reason})") from error


def make_frames(folder: Path, release: EventRelease, steps: int) -> Path:
    """Let SpikingJelly make `steps` frames of each sample of the events in `folder`; the new folder there.

    It works beside the folder's own files, which stay as they are; what it made is moved in when it is whole.
    """
    cls = _class(release)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as name:
        work = Path(name)
        events = folder / "events_np"
        if not events.is_dir():
            extracted = folder / "extract"
            if not extracted.is_dir():
                (work / "extract").mkdir()
                cls.extract_downloaded_files(folder / "download", work / "extract")
                (work / "extract").rename(extracted)
            (work / "events").mkdir()
            cls.create_raw_from_extracted(extracted, work / "events")
            (work / "events").rename(events)
        (work / "events_np").symlink_to(events.resolve(), target_is_directory=True)
        made = work / FRAMES.format(steps)
        kwargs: dict[str, Any] = {"train": True} if release.split else {}
        cls(str(work), data_type="frame", frames_number=steps, split_by="number", **kwargs)
        whole = folder / made.name
        return whole if whole.is_dir() else made.rename(whole)  # another process may have been faster


def _class(release: EventRelease) -> Any:
    import importlib

    module, name = release.cls
    return getattr(importlib.import_module(f"spikingjelly.datasets.{module}"), name)
