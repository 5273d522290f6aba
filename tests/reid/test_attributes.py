import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from reid.datasets.attributes import read_attributes
from reid.datasets.split import DatasetError
from reid.losses.attributes import AttributeLoss
from reid.losses.total import LossConfig, Objective
from tests.reid import factories

PIDS = np.array([3, 7, 8], np.int64)


def table(root: Path, text: str) -> Path:
    (root / "attributes.csv").write_text(text, encoding="utf-8")
    return root


def test_words_become_classes_in_the_order_of_the_persons_and_constant_columns_go(tmp_path: Path) -> None:
    root = table(tmp_path, "split,pid,hat,legs\ntrain,8,cap,two\ntrain,3,none,two\ntrain,7,brim,two\nval,7,none,one\n")
    assert read_attributes(root, "train", PIDS).tolist() == [[2], [0], [1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("split,pid\ntrain,3\n", "attributes.csv:1: columns must be split, pid and at least one attribute"),
        ("split,pid,hat\ntrain,3\n", "attributes.csv:2: must be a split, a pid and 1 words"),
        ("split,pid,hat\ntrain,three,cap\n", "attributes.csv:2"),
        (f"split,pid,hat\ntrain,{'3' * 5000},cap\n", "attributes.csv:2"),
        ("split,pid,hat\ntrain,3,cap\n", "no row of split 'train' for 2 persons, such as 7"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_attributes(table(tmp_path, text), "train", PIDS)


def test_a_table_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    table(tmp_path, "")
    (tmp_path / "attributes.csv").write_bytes(b"split,pid,hat\ntrain,3,b\xe9ret\n")
    with pytest.raises(DatasetError, match=r"attributes\.csv:2: not UTF-8 text: byte 0xe9"):
        read_attributes(tmp_path, "train", PIDS)


def test_a_missing_table_says_what_needs_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"loss\.attributes needs the table"):
        read_attributes(tmp_path, "train", PIDS)


def test_the_loss_begins_at_the_entropy_of_the_classes() -> None:
    classes = torch.tensor([[0, 0], [0, 1], [0, 2], [1, 3]])
    loss = AttributeLoss(5, classes)
    with torch.no_grad():
        loss.classifier.weight.zero_()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 2 + math.log(4) / 2
    assert loss(torch.randn(4, 5), torch.arange(4)).item() == pytest.approx(entropy, abs=1e-6)


def test_the_loss_is_the_mean_cross_entropy_of_every_attribute() -> None:
    classes = torch.tensor([[0, 2], [1, 0], [1, 1]])
    loss, features, people = AttributeLoss(4, classes), torch.randn(5, 4), torch.tensor([2, 0, 1, 1, 0])
    logits = loss.classifier(features)
    expected = 0.0
    for row, person in enumerate(people.tolist()):
        for part, wanted in ((logits[row, :2], classes[person, 0]), (logits[row, 2:], classes[person, 1])):
            expected -= functional.log_softmax(part, dim=0)[wanted].item() / 10
    assert loss(features, people).item() == pytest.approx(expected, abs=1e-6)


def test_an_objective_with_the_weight_and_without_the_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="bring no attributes"):
        Objective(factories.model_config(), LossConfig(attributes=1.0), identities=4, modalities=2)
