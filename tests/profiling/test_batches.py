"""What goes into a network and comes out of it: tensors, tuples, mappings, ids; where class scores are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.profiling import profile
from tests.profiling.observed import total

T, B, IN, WIDE, OUT = 5, 3, 11, 7, 4


def spikes(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


FRAMES = spikes(T, B, IN)


class Frames(nn.Module):
    """A layer, IF neurons and a head, one step per call of `step`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.cell, self.head = nn.Linear(IN, WIDE), neuron.IFNode(), nn.Linear(WIDE, OUT, bias=False)
        self.fc.weight.data *= 4

    def step(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(self.fc(x)))


class Words(nn.Module):
    """Token ids and a mask, as language models take them; a mapping comes out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed, self.lif, self.head = (
            nn.Embedding(40, WIDE),
            neuron.IFNode(),
            nn.Linear(WIDE, OUT, bias=False),
        )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict[str, Any]:
        y = self.lif(4 * self.embed(input_ids))
        if attention_mask is not None:
            y = y * attention_mask.unsqueeze(-1)
        return {"hidden": y, "logits": self.head(y).mean(1)}


IDS = torch.randint(0, 40, (B, 6), generator=torch.Generator().manual_seed(2))
MASK = spikes(B, 6, seed=4)
Y = torch.tensor([1, 0, 3])
FORMS: dict[str, tuple[Any, bool, bool]] = {  # batch, masked, labelled
    "a mapping": ({"input_ids": IDS, "attention_mask": MASK}, True, False),
    "a mapping with labels": ({"input_ids": IDS, "attention_mask": MASK, "labels": Y}, True, True),
    "a mapping and labels": (({"input_ids": IDS}, Y), False, True),
    "a tuple and labels": (((IDS, MASK), Y), True, True),
    "a tensor of ids": (IDS, False, False),
    "a list of one": ([IDS], False, False),
}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_of_any_form(form: str) -> None:
    batch, masked, labelled = FORMS[form]
    net = Words().eval()
    with torch.no_grad():
        out = net(IDS, MASK if masked else None)
    functional.reset_net(net)
    measured = profile(net, [batch])
    assert measured.samples == B and not measured.uncounted
    assert total(measured, "head", "ac") == int(out["hidden"].count_nonzero()) * OUT > 0
    right = int((out["logits"].argmax(1) == Y).sum())
    assert measured.correct == (right if labelled else None)


Change = Callable[[torch.Tensor], Any]
OUTPUTS: dict[str, tuple[Change, str | None, Change]] = {
    "an entry and nothing": (lambda z: (z.mean(0), None), None, lambda z: z.mean(0)),
    "the second entry": (lambda z: (z.sum(0) * 0, z.mean(0)), "1", lambda z: z.mean(0)),
    "each step's": (lambda z: z, None, lambda z: z.mean(0)),
    "each step's, the last": (lambda z: z, ":last-T", lambda z: z[-1]),
    "each step's, summed": (lambda z: z, ":sum-T", lambda z: z.sum(0)),
    "samples first": (lambda z: z.transpose(0, 1), None, lambda z: z.mean(0)),
    "a key": (lambda z: {"aux": -z.mean(0), "cls": z.mean(0)}, "cls", lambda z: z.mean(0)),
    "a key over time": (lambda z: {"aux": -z, "cls": z}, "cls:last-T", lambda z: z[-1]),
    "lists in tuples": (lambda z: ([z.mean(0), z], None), None, lambda z: z.mean(0)),
}  # fmt: skip


@pytest.mark.parametrize("what", OUTPUTS)
def test_class_scores_are_where_they_are_said_to_be(what: str) -> None:
    put, where, right = OUTPUTS[what]

    class Puts(Frames):
        def forward(self, x: torch.Tensor) -> Any:
            return put(torch.stack([self.step(x) for x in x]))

    net = Puts().eval()
    x = spikes(T, 9, IN, seed=5)
    with torch.no_grad():
        scores = right(torch.stack([net.step(frame) for frame in x]))
    functional.reset_net(net)
    y = scores.argmax(1)
    y[0] = (y[0] + 1) % OUT
    assert profile(net, [(x, y)], layout="TB", output=where).correct == 8


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("7", "output = 7: the network puts out tuple with 2 entries"),
        ("logits", "output = 'logits': the network puts out tuple with 2 entries"),
        ("0:mean", "output = '0:mean': after the colon must be one of mean-T, sum-T, last-T"),
        ("", "output = '': must be an index or a key"),
    ],
)
def test_an_output_that_is_not_there_is_named(output: str, message: str) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(IN, OUT)

        def forward(self, x: torch.Tensor) -> Any:
            return self.fc(x), None

    with pytest.raises(ConfigError, match=re.escape(message)):
        profile(Pair(), [(FRAMES[0], torch.tensor([0, 1, 2]))], output=output)


def test_a_network_without_scores_is_profiled_without_labels() -> None:
    class Detector(nn.Module):
        """Boxes at two scales."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.lif = nn.Conv2d(2, 3, 3, padding=1), neuron.IFNode()
            self.small, self.large = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 3, stride=2)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            y = self.lif(self.stem(x) * 3)
            return [self.small(y), self.large(y)]

    x = torch.rand(B, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    measured = profile(Detector(), [x, x[:1], x[:2]])
    assert (measured.samples, measured.correct, measured.uncounted) == (6, None, ())
    with pytest.raises(DataError, match="holds no class scores"):
        profile(Detector(), [(x, torch.tensor([0, 1, 2]))])
