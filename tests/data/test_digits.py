"""The digits: ranges, the fixed split, filters and sizes."""

import pytest
import torch
from kernelbook.data.digits import TEST_SIZE, digits


def test_all_images_in_the_order_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = digits()
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    assert images.shape == (1797, 8, 8) and images.min() == 0 and images.max() == 1
    assert torch.equal(labels, torch.tensor(load_digits().target))
    assert torch.allclose(images * 16, torch.tensor(load_digits().images, dtype=torch.float32))


def test_split_parts_the_images():
    train, test, everything = digits(split="train")[0], digits(split="test")[0], digits()[0]
    assert len(test) == TEST_SIZE and len(train) == 1000
    # no image is lost, none is in both parts (all scans differ)
    assert len(torch.cat([train, test]).flatten(1).unique(dim=0)) == len(everything.flatten(1).unique(dim=0)) == 1797


def test_split_is_balanced_and_fixed():
    counts = torch.stack([digits(split=s)[1].bincount(minlength=10) for s in ("train", "test")])
    share = counts[1] / counts.sum(0)
    assert (share - TEST_SIZE / 1797).abs().max() < 0.01
    first, again = digits(split="train"), digits(split="train")
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_split_spreads_over_the_file():
    # the file is in the order of its writers: a split by position would test on other hands
    place = {image.numpy().tobytes(): i for i, image in enumerate(digits()[0])}
    where = torch.tensor([float(place[image.numpy().tobytes()]) for image in digits(split="test")[0]])
    assert abs(where.mean() / 1797 - 0.5) < 0.02 and torch.diff(where).max() < 100


def test_classes_keep_their_labels():
    images, labels = digits(split="test", classes=(3, 8))
    whole, every = digits(split="test")
    assert set(labels.tolist()) == {3, 8}
    assert torch.equal(images, whole[(every == 3) | (every == 8)])


def test_a_generator_of_classes_is_read_once():
    assert len(digits(classes=(c for c in (0, 1)))[1]) == len(digits(classes=[0, 1])[1])


@pytest.mark.parametrize("size", [4, 7, 16, 28])
def test_sizes_keep_the_ink(size):
    small, (images, _) = digits()[0], digits(size)
    assert images.shape == (1797, size, size) and images.min() >= 0 and images.max() <= 1
    assert abs(images.mean() - small.mean()) < 0.01
    pooled = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
    reference = torch.nn.functional.adaptive_avg_pool2d(small, 4).flatten(1)
    assert torch.corrcoef(torch.stack([pooled.flatten(), reference.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(size=0), "size=0: expected"),
        (dict(size=8.0), "size=8.0: expected"),
        (dict(split="valid"), "split='valid': expected None, 'train' or 'test'"),
        (dict(classes=[]), r"classes=\[\]: expected"),
        (dict(classes=[3, 10]), r"classes=\[3, 10\]: expected"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        digits(**arguments)
