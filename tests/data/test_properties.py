"""Properties that hold for any data: the order of examples, the splits, tables that are written and read."""

import csv
import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vit.data.csv_table import list_csv
from keras_vit.data.listing import SPLITS, ListedImage, Listing
from keras_vit.data.order import Order
from keras_vit.data.splits import assign_splits

any_few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@any_few
@given(
    count=st.integers(1, 25), batch_size=st.integers(1, 30), seed=st.integers(0, 2**31 - 1), full_batches=st.booleans()
)
def test_every_pass_is_a_permutation_at_whatever_step_it_is_taken_up(count, batch_size, seed, full_batches):
    order = Order(count, batch_size, seed, full_batches)
    again = Order(count, batch_size, seed, full_batches)
    steps = [np.asarray(order.indices(step)) for step in range(2 * order.steps_per_pass)]
    counted = [np.asarray(order.mask(step)) for step in range(2 * order.steps_per_pass)]
    seen = np.concatenate(steps)[np.concatenate(counted) == 1]
    for start in range(0, len(seen) - count + 1, count):
        assert sorted(seen[start : start + count]) == list(range(count))
    for step in (len(steps) - 1, len(steps) // 2, 0):
        np.testing.assert_array_equal(np.asarray(again.indices(step)), steps[step])


@st.composite
def listings(draw):
    """Images of a few contents and classes, so that there are copies, and images in two classes."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), min_size=1, max_size=60))
    images = [
        ListedImage(b"", str(i), label, "train", digest=hashlib.sha256(bytes([content])).hexdigest())
        for i, (content, label) in enumerate(pairs)
    ]
    return Listing("", "", (), ("a", "b", "c"), tuple(images))


def split(listing, validation=0.2, test=0.2, seed=0):
    return assign_splits(listing, validation=validation, test=test, seed=seed)


@any_few
@given(listings(), st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([0.0, 0.2, 0.5]), st.integers(0, 9), st.randoms())
def test_splits_are_complete_disjoint_and_of_the_content_alone(listing, validation, test, seed, random):
    images = split(listing, validation, test, seed)
    assert [image.name for image in images] == [image.name for image in listing.images]
    of_content = {}
    for image in images:
        assert image.split in SPLITS and of_content.setdefault(image.digest, image.split) == image.split
    assert {image.class_name for image in images} == {image.class_name for image in images if image.split == "train"}
    shuffled = random.sample(listing.images, len(listing.images))
    renamed = Listing("", "", (), listing.class_names, tuple(shuffled))
    assert {image.digest: image.split for image in split(renamed, validation, test, seed)} == of_content


@any_few
@given(listings(), st.integers(41, 255), st.sampled_from("abc"))
def test_one_image_more_moves_at_most_one_in_each_split_of_its_class(listing, content, label):
    more = ListedImage(b"", "new", label, "train", digest=hashlib.sha256(bytes([content])).hexdigest())
    added = Listing("", "", (), listing.class_names, (*listing.images, more))
    before, after = split(listing), split(added)[:-1]
    moved = [one for one, other in zip(before, after, strict=True) if one.split != other.split]
    assert {image.class_name for image in moved} <= {label}
    assert len({image.digest for image in moved}) <= 2


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\"), min_size=1, max_size=20).filter(
    lambda value: value == value.strip()
)
row = st.tuples(text, text, st.sampled_from(["train", "val", "TEST"]), st.one_of(st.just(0.0), st.floats(1e-6, 1e6)))


@any_few
@given(st.lists(row, min_size=1, max_size=20, unique_by=lambda row: row[0]), st.sampled_from(["utf-8", "utf-8-sig"]))
def test_a_table_that_is_written_is_read(tmp_path_factory, rows, encoding):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "weight"), *rows])
    names = {"train": "train", "val": "validation", "TEST": "test"}
    read = [(image.name, image.class_name, image.split, image.weight) for image in list_csv(path).images]
    assert read == [(name, label, names[split], weight) for name, label, split, weight in rows]
