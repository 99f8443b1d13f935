import random
from collections import Counter, defaultdict

import pytest

from keras_vit.data.check import check_folder
from keras_vit.data.listing import SPLITS, ListedImage, Listing
from keras_vit.data.sources import open_source
from keras_vit.data.splits import assign_splits

pytestmark = pytest.mark.filterwarnings("error")


def visits(sizes, classes="ab"):
    """Returns {path: number of an image} of people with so many images in each class."""
    number = iter(range(10_000))
    return {
        f"{name}/p{person}_{index}.png": next(number)
        for person, size in enumerate(sizes)
        for name in classes
        for index in range(size)
    }


def people(names):
    return {name.split("/")[1].split("_")[0] for name in names}


@pytest.mark.parametrize("seed", range(4))
def test_a_group_lies_in_one_split_and_the_shares_are_near(write, seed):
    root = write(visits([3, 1, 2, 5, 4, 1, 2, 3, 1, 2, 2, 4, 3, 1, 2, 4]))  # 40 of each class
    source = open_source(root, groups="(.+)_[0-9]+", validation=0.1, test=0.2, seed=seed)
    of_split = [people(getattr(source, split).names) for split in SPLITS]
    assert sum(map(len, of_split)) == len(set.union(*of_split)) == 16
    for split, wanted in (("test", 8), ("validation", 4)):
        assert all(abs(n - wanted) <= 1 for n in Counter(getattr(source, split).labels.tolist()).values())


def test_units_are_groups_and_copies(write):
    root = write(
        {"a/ann_1.png": 0, "b/ann_2.png": 1, "a/bob_1.png": 2, "b/cy_1.png": 2, "a/dan_1.png": 3, "b/ed_1.png": 4}
    )
    train = open_source(root, groups="(.+)_[0-9]+", validation=0.0, test=0.0).train
    unit = dict(zip(train.names, train.units.tolist(), strict=True))
    assert unit["a/ann_1.png"] == unit["b/ann_2.png"] and unit["a/bob_1.png"] == unit["b/cy_1.png"]
    assert len({*unit.values()}) == 4


def test_groups_depend_on_content_and_seed_alone(write):
    listing = Listing(
        "",
        "",
        (),
        ("a", "b"),
        tuple(
            ListedImage(b"", name, name[0], "train", group=name.split("/")[1].split("_")[0], digest=f"{n:x}")
            for name, n in visits([2] * 30).items()
        ),
    )
    first = {image.name: image.split for image in assign_splits(listing, validation=0.1, test=0.2, seed=0)}
    shuffled = Listing("", "", (), ("a", "b"), tuple(random.Random(0).sample(listing.images, len(listing.images))))
    assert {i.name: i.split for i in assign_splits(shuffled, validation=0.1, test=0.2, seed=0)} == first
    assert {i.name: i.split for i in assign_splits(listing, validation=0.1, test=0.2, seed=1)} != first
    assert Counter(first.values()) == {"train": 84, "test": 24, "validation": 12}


@pytest.mark.parametrize("seed", range(20))
def test_large_groups_are_tested_on_as_well(seed):
    sizes = [20, 12, 12] + [2] * 28
    images = [
        ListedImage(b"", f"{group}.{n}", "ab"[n % 2], "train", group=str(group), digest=f"{group} {n}")
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    drawn = assign_splits(Listing("", "", (), ("a", "b"), tuple(images)), validation=0.1, test=0.2, seed=seed)
    count = Counter((image.split, image.class_name) for image in drawn)
    assert all(abs(count["test", name] - 10) <= 1 and abs(count["validation", name] - 5) <= 1 for name in "ab")


def test_groups_that_share_an_image_are_one(write):
    files = visits([2] * 12)
    files["a/p0_copy.png"] = files["b/p7_0.png"] = files["a/p3_0.png"]
    for seed in range(5):
        source = open_source(write(files), groups="(p[0-9]+)_.*", seed=seed)
        splits = defaultdict(set)
        for split in SPLITS:
            for name in people(getattr(source, split).names):
                splits[name].add(split)
        assert splits["p0"] == splits["p3"] == splits["p7"] == {"train"}  # the image is in two classes


def test_the_pattern_is_matched_inside_the_class_folder(write):
    files = {
        f"{split}/x/{name}/ann/{i}.png": ord(name) + 10 * i for split in ("train",) for name in "ab" for i in range(5)
    }
    files |= {f"train/x/{name}/bo/0.1.png": 200 + ord(name) for name in "ab"}
    source = open_source(write(files), class_depth=2, groups="([^/]+)/[0-9.]+", test=0.2, validation=0)
    assert {*source.test.names} == {"train/x/a/bo/0.1.png", "train/x/b/bo/0.1.png"}


@pytest.mark.parametrize(
    "files, groups, fault",
    [
        (visits([3, 3, 3]), "q(.+)_[0-9]+", "groups=q(.+)_[0-9]+ matches 0 of 18 names, and not p0_0, p0_1"),
        (visits([3, 3]) | {"a/odd.png": 900}, "(.+)_[0-9]+", "matches 12 of 13 names, and not odd;"),
        (visits([3, 3, 3]), "(p).+", "all images are in one group, p:"),
        (visits([3, 3]), "(p.)_.+", "none of the 2 groups is small enough for test=0.2"),
        (
            {
                f"{split}/{name}": 100 * len(split) + n
                for split in ("train", "test")
                for name, n in visits([3, 3]).items()
            },
            "(p.)_.+",
            "2 groups with images in several splits of the data: p0, p1;",
        ),
    ],
)
def test_faults_of_groups_are_problems_of_check_and_fit(write, files, groups, fault):
    root = write(files)
    assert fault in "; ".join(check_folder(root, groups=groups).problems)
    with pytest.raises(ValueError) as caught:
        open_source(root, groups=groups, require_test=True)
    assert fault in str(caught.value)


@pytest.mark.parametrize("groups, fault", [("(.+", "unterminated"), (".+", "without parentheses")])
def test_a_pattern_is_a_regular_expression_with_a_group(write, groups, fault):
    with pytest.raises(ValueError, match=f"Expected groups to be a regular expression .* Received: groups=.*{fault}"):
        open_source(write(visits([3, 3, 3])), groups=groups)


def test_groups_are_for_folders(write):
    with pytest.raises(ValueError, match=r"a \.csv has the column group instead. Received: groups='\(.\)'"):
        open_source("synthetic", groups="(.)")


def test_the_column_of_groups(write):
    root = write({f"{n}.png": n for n in range(40)})
    lines = [f"{n}.png,{'ab'[n % 2]},g{n // 4}" for n in range(40)]
    (root / "list.csv").write_text("\n".join(["path,label,group", *lines]))
    source = open_source(root / "list.csv")
    of_split = [{int(name[:-4]) // 4 for name in getattr(source, split).names} for split in SPLITS]
    assert [len(groups) for groups in of_split] == [7, 1, 2]
    assert check_folder(root / "list.csv").groups == 10
    (root / "list.csv").write_text("\n".join(["path,label,group", *lines, "39.png,a,"]))
    with pytest.raises(ValueError, match="line 42: no group"):
        open_source(root / "list.csv")


def test_check_ends_with_the_command_for_the_groups(write):
    report = check_folder(write(visits([2] * 10)), groups="(.+)_[0-9]+")
    assert report.groups == 10 and "groups, each in one split: 10" in report.text()
    assert report.command.endswith("'groups=(.+)_[0-9]+'")
