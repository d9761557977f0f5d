import numpy as np
import pytest

from cnnjax.data import Dataset
from cnnjax.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 6, 4, 3), dtype=np.uint8)
LABELS = np.arange(10, dtype=np.int32)


def make(train_images=IMAGES, train_labels=LABELS, test_images=IMAGES, test_labels=LABELS, classes=10):
    return Dataset("toy", train_images, train_labels, test_images, test_labels, classes, "nowhere")


def with_nan():
    images = IMAGES.astype(np.float32)
    images[3, 1, 2, 0] = np.nan
    return images


def ragged():
    images = np.empty(10, object)
    images[:] = list(IMAGES)
    images[2] = IMAGES[2, :5]
    return images


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"train_labels": LABELS + 5}, r"training split.*image 5 \(counted from 0\) has label 10, .*0 to 9"),
        ({"test_labels": LABELS - 1}, r"test split.*image 0 .* has label -1"),
        ({"train_images": IMAGES.astype(np.float32)}, r"images are float32 .*, not uint8 .* of 0 to 255"),
        (
            {"train_images": with_nan()},
            r"float32 of shape .*; record 3 \(counted from 0\) holds nan, not uint8",
        ),
        (
            {"train_labels": np.array([0.0, np.inf])},
            r"float64 of shape \(2,\); record 1 .* holds inf, not int32",
        ),
        (
            {"train_images": ragged()},
            r"images are object .*; record 2 \(counted .* of shape \(5, 4, 3\), not",
        ),
        (
            {"train_labels": np.array(["a", 1], object)},
            r"object .*; record 0 .* is str of shape \(\), not int32",
        ),
        ({"train_images": np.array(None)}, r"images are object of shape \(\), not"),
        ({"train_images": IMAGES.tolist()}, "images are no numpy array but list, not uint8"),
        ({"test_labels": None}, "test split.*labels are no numpy array but NoneType, not int32"),
        ({"test_labels": LABELS > 3}, "labels are bool of shape"),
        ({"train_images": IMAGES[:, :0]}, r"it is empty, \(10, 0, 4, 3\)"),
        ({"classes": 0}, "toy: classes=0: must be a whole number from 1"),
        ({"classes": 10.0}, r"classes=10\.0"),
        ({"classes": "10"}, r"classes='10'"),
        ({"train_images": IMAGES[0]}, r"shape \(6, 4, 3\), not uint8 \[image, height, width, channel\]"),
        ({"train_labels": LABELS.astype(np.int64)}, r"labels are int64 .*: use labels\.astype\(np\.int32\)"),
        ({"train_labels": LABELS[:9]}, "10 images but 9 labels"),
        ({"test_images": IMAGES[:0], "test_labels": LABELS[:0]}, "test split.*empty"),
        ({"test_images": IMAGES[:, :3]}, r"training images are \(6, 4, 3\) but test images are \(3, 4, 3\)"),
    ],
)
def test_bad_arrays_are_refused(bad, message):
    with pytest.raises(UserError, match=message) as error:
        make(**bad)
    assert "\n" not in str(error.value)


def test_the_digest_is_of_all_that_the_arrays_say():
    different = {
        make().digest,
        make(train_images=IMAGES ^ 1).digest,
        make(train_images=IMAGES[::-1]).digest,  # the order is part of an experiment
        make(train_labels=LABELS[::-1]).digest,
        make(test_images=IMAGES ^ 1).digest,
        make(test_labels=LABELS[::-1]).digest,
        make(classes=11).digest,
        make(IMAGES.reshape(10, 4, 6, 3), test_images=IMAGES.reshape(10, 4, 6, 3)).digest,
        make(IMAGES[:9], LABELS[:9]).digest,
        make().split(3, 0).digest,
    }
    assert len(different) == 10
    last = np.asfortranarray(IMAGES)  # how the arrays lie in memory is not
    assert make(last, test_images=last).digest == make().digest


def test_one_class_will_do():
    assert make(train_labels=LABELS * 0, test_labels=LABELS * 0, classes=1).classes == 1


def test_downsampled_averages_boxes_and_rounds_halves_up():
    small = make().downsampled(2)
    assert small.train_images.shape == (10, 3, 2, 3)
    for row in range(3):
        for column in range(2):
            box = IMAGES[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected = np.floor(box.astype(float).mean(axis=(1, 2)) + 0.5)
            np.testing.assert_array_equal(small.train_images[:, row, column], expected)
    np.testing.assert_array_equal(small.test_images, small.train_images)
    assert small.train_images.dtype == np.uint8
    np.testing.assert_array_equal(make(IMAGES * 0 + 255).downsampled(2).train_images, 255)


def test_downsampled_is_the_same_across_chunks():
    many = np.random.default_rng(1).integers(0, 256, (5000, 4, 4, 1), dtype=np.uint8)
    labels = np.zeros(5000, np.int32)
    small = make(many, labels, many[:3], labels[:3]).downsampled(4).train_images
    np.testing.assert_array_equal(small[:, 0, 0, 0], np.floor(many.mean(axis=(1, 2, 3)) + 0.5))


def test_downsampled_needs_a_divisor():
    assert make().downsampled(1).train_images is IMAGES
    for factor in (0, -2, 4):
        with pytest.raises(UserError, match=f"cannot downsample 6x4 images by {factor}"):
            make().downsampled(factor)


def test_split_holds_out_training_images():
    held = make(test_images=IMAGES[:1], test_labels=LABELS[:1]).split(3, seed=1)
    assert (len(held.train_labels), len(held.test_labels)) == (7, 3)
    together = np.concatenate([held.train_labels, held.test_labels])
    np.testing.assert_array_equal(np.sort(together), LABELS)
    np.testing.assert_array_equal(held.train_images, IMAGES[held.train_labels])
    np.testing.assert_array_equal(held.test_images, IMAGES[held.test_labels])
    np.testing.assert_array_equal(held.test_labels, make().split(3, seed=1).test_labels)
    assert {tuple(make().split(3, seed).test_labels) for seed in range(8)} != {tuple(held.test_labels)}


@pytest.mark.parametrize("validation", [-1, 0, 10, 11])
def test_split_leaves_images_on_both_sides(validation):
    with pytest.raises(UserError, match="use 1 to 9"):
        make().split(validation, seed=0)


def test_canonical_order_does_not_depend_on_the_order_it_got():
    shuffled = np.random.default_rng(2).permutation(10)
    one, other = make().canonical(), make(IMAGES[shuffled], LABELS[shuffled]).canonical()
    np.testing.assert_array_equal(one.train_images, other.train_images)
    np.testing.assert_array_equal(one.train_labels, other.train_labels)
    np.testing.assert_array_equal(one.train_images, IMAGES[one.train_labels])
    assert not np.array_equal(one.train_labels, LABELS)


def test_canonical_order_of_many_classes():
    labels = np.arange(250, 260, dtype=np.int32)
    one = make(train_labels=labels, test_labels=labels, classes=260).canonical()
    other = make(IMAGES[::-1], labels[::-1], IMAGES, labels, classes=260).canonical()
    np.testing.assert_array_equal(one.train_labels, other.train_labels)


def test_canonical_order_tells_equal_images_with_two_labels_apart():
    twins, labels = np.zeros((10, 2, 2, 1), np.uint8), LABELS.copy()
    one, other = make(twins, labels, twins, labels), make(twins, labels[::-1], twins, labels)
    np.testing.assert_array_equal(one.canonical().train_labels, other.canonical().train_labels)
