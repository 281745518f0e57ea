"""What is taken for labels: class indices, columns of them, class probabilities; all else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from snn_energy.errors import DataError
from snn_energy.profiling import profile

BATCH, CLASSES = 6, 5


class Net(nn.Module):
    """(B, 8) -> the scores that it was given, in the form that `wrap` puts them."""

    def __init__(self, scores: torch.Tensor, wrap: Any = lambda scores: scores) -> None:
        super().__init__()
        self.fc, self.sn = nn.Linear(8, CLASSES), neuron.IFNode()
        self.scores, self.wrap = scores, wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(self.sn(self.fc(x)) * 0 + self.scores[: len(x)])


SCORES = torch.rand(BATCH, CLASSES, generator=torch.Generator().manual_seed(3))
BEST = [max(range(CLASSES), key=lambda k: float(SCORES[b, k])) for b in range(BATCH)]  # by a plain loop
MIXED = [BEST[0], (BEST[1] + 1) % CLASSES, BEST[2], BEST[3], (BEST[4] + 2) % CLASSES, BEST[5]]  # 4 right


def correct(labels: Any, **wrap: Any) -> int | None:
    return profile(Net(SCORES, **wrap), [(torch.rand(BATCH, 8), labels)], batch_dim=0).correct


def soft(rows: list[int], peak: float) -> torch.Tensor:
    table = torch.full((len(rows), CLASSES), (1 - peak) / (CLASSES - 1))
    for b, k in enumerate(rows):
        table[b, k] = peak
    return table


TAKEN = {
    "a list": MIXED,
    "a tuple": tuple(MIXED),
    "int64": torch.tensor(MIXED),
    "bytes": torch.tensor(MIXED, dtype=torch.uint8),
    "numpy": np.array(MIXED, dtype=np.int32),
    "a column": torch.tensor(MIXED)[:, None],
    "a numpy column": np.array(MIXED, dtype=np.int16)[:, None],
    "one-hot floats": soft(MIXED, 1.0),
    "one-hot integers": nn.functional.one_hot(torch.tensor(MIXED), CLASSES),
    "smoothed": soft(MIXED, 0.6),
    "half precision": soft(MIXED, 0.75).half(),
}


@pytest.mark.parametrize("what", TAKEN)
def test_labels_are_compared_sample_by_sample(what: str) -> None:
    assert correct(TAKEN[what]) == 4


def test_the_last_batch_is_cut_with_its_labels() -> None:
    x = torch.rand(BATCH, 8)
    for labels in (torch.tensor(MIXED)[:, None], soft(MIXED, 0.9)):
        measured = profile(Net(SCORES), [(x, labels), (x, labels)], batch_dim=0, max_samples=8)
        assert (measured.samples, measured.correct) == (8, 4 + 1)


REFUSED = {
    "floats": (
        torch.tensor(MIXED).float(),
        "batch 1 are float32, values from 0 to 4: class indices are whole numbers",
    ),
    "a column of floats": (torch.rand(BATCH, 1), "are float32, values from 0"),
    "negative": ([0, 1, 2, -1, 3, 4], r"sample 3 has label -1, .* 5 classes, 0 to 4 .*run from -1 to 4"),
    "too large": ([0, 1, 2, 3, 4, 5], r"sample 5 has label 5, .* 5 classes, 0 to 4 .*run from 0 to 5"),
    "counted from one": (np.array([1, 2, 3, 4, 5, 5]), r"sample 4 has label 5, .* run from 1 to 5"),
    "too few": ([0, 1, 2], "3 labels for 6 samples"),
    "too many": (torch.zeros(7, dtype=torch.long), "7 labels for 6 samples"),
    "a row": (torch.tensor([MIXED]), r"shape \(1, 6\) of int64"),
    "a map": (
        torch.zeros(BATCH, 4, 3, dtype=torch.long),
        r"shape \(6, 4, 3\) of int64: must be B class indices",
    ),
    "a number": (3, r"shape \(\) of int64"),
    "text": (["cat"] * BATCH, "of type list: must be"),
    "several per sample": (torch.ones(BATCH, CLASSES), r"no class probabilities \(rows ≥ 0 with sum 1\)"),
    "scores": (SCORES - 0.5, "no class probabilities"),
    "undecided": (soft(MIXED[:3], 0.2).repeat(2, 1), "sample 0 has no single most probable class"),
    "of other classes": (torch.eye(7)[:BATCH], "probabilities of 7 classes, the network has 5"),
    "not finite": (torch.full((BATCH, CLASSES), float("nan")), "no class probabilities"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_labels_are_refused_in_one_line(what: str) -> None:
    labels, message = REFUSED[what]
    with pytest.raises(DataError, match=message) as caught:
        correct(labels)
    assert "\n" not in str(caught.value)


def test_the_batch_is_named() -> None:
    x = torch.rand(BATCH, 8)
    with pytest.raises(DataError, match="labels of batch 3: sample 2 has label 9"):
        profile(Net(SCORES), [(x, MIXED), x[:0], (x, [0, 0, 9, 0, 0, 0])], batch_dim=0)


WRAPS = {
    "a pair": lambda s: (s, s * 0),
    "a list": lambda s: [s],
    "logits among others": lambda s: {"loss": s.sum(), "logits": s},
    "steps first": lambda s: torch.stack([s, s, s + 0.1]),
    "steps second": lambda s: torch.stack([s, s, s + 0.1], 1),
}


@pytest.mark.parametrize("what", WRAPS)
def test_scores_are_found_in_what_the_network_puts_out(what: str) -> None:
    assert correct(MIXED, wrap=WRAPS[what]) == 4


@pytest.mark.parametrize(
    "wrap",
    [lambda s: s.sum(1), lambda s: s[..., None, None], lambda s: None, lambda s: s.mean(0, keepdim=True)],
)
def test_labels_for_a_network_without_class_scores_are_refused(wrap: Any) -> None:
    with pytest.raises(DataError, match="labels are given, but the network"):
        correct(MIXED, wrap=wrap)
    assert profile(Net(SCORES, wrap), [torch.rand(BATCH, 8)], batch_dim=0).correct is None


def test_a_column_says_where_the_batch_is() -> None:
    net = nn.Sequential(layer.Linear(7, 5, step_mode="m"), neuron.LIFNode(v_threshold=0.2, step_mode="m"))
    measured = profile(net, [(torch.rand(4, 3, 7), torch.zeros(3, 1, dtype=torch.long))])
    assert (measured.samples, measured.time_steps) == (3, 4)
