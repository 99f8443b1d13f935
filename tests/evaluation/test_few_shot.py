import numpy as np
import pytest

from keras_vit.evaluation.few_shot import REGULARIZER, REGULARIZERS, Ridge, few_shot

CLASSES = 3


def clouds(images, width, seed=0, spread=1.0):
    """Returns features around a point a class, and labels."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(CLASSES, width))
    labels = np.arange(images) % CLASSES
    return centres[labels] + spread * random.normal(size=(images, width)), labels


def solved(features, labels, regularizer):
    """Returns the weights by NumPy's general solver, (width + 1, classes)."""
    x = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-5)
    x = np.concatenate([x, np.full((len(x), 1), 100.0)], axis=1)
    y = np.full((len(x), CLASSES), -1.0)
    y[np.arange(len(x)), labels] = 1
    return np.linalg.solve(x.T @ x + regularizer * np.eye(x.shape[1]), x.T @ y)


@pytest.mark.parametrize("images, width", [(53, 17), (18, 17), (17, 29), (13, 41)])
@pytest.mark.parametrize("regularizer", [2.0**-10, 1.0, 2.0**10, 2.0**20])
def test_the_weights_are_those_of_an_independent_solver(images, width, regularizer):
    """Of more images than features, and of fewer, with the constant just on the border."""
    features, labels = clouds(images, width)
    weights = Ridge(features, labels, CLASSES).weights(regularizer)
    assert weights.shape == (width + 1, CLASSES)
    np.testing.assert_allclose(weights, solved(features, labels, regularizer), rtol=0, atol=1e-6)


@pytest.mark.parametrize("images, width", [(53, 17), (13, 41)])
def test_scores_are_those_of_scikit_learn(images, width):
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = clouds(images, width)
    others, _ = clouds(23, width, seed=1)
    ridge = Ridge(features, labels, CLASSES)
    x, y = ridge.standardized(features), 2.0 * np.eye(CLASSES)[labels] - 1
    theirs = linear_model.Ridge(alpha=3.0, fit_intercept=False, solver="svd").fit(x, y)
    scores = ridge.standardized(others) @ ridge.weights(3.0)
    np.testing.assert_allclose(scores, theirs.predict(ridge.standardized(others)), rtol=0, atol=1e-6)


def test_accuracy_of_every_regulariser_and_number_of_shots():
    train, labels = clouds(90, 11, spread=2.0)
    test, truth = clouds(47, 11, seed=1, spread=2.0)
    result = few_shot(train, labels, test, truth, shots=(2, 30))
    assert result.accuracy.shape == (2, len(REGULARIZERS))
    assert REGULARIZER in REGULARIZERS
    # All of each class: no chance is left, and the order does not matter.
    for column in (0, 10, 20, 30):
        weights = solved(train, labels, REGULARIZERS[column])
        x = (test - train.mean(axis=0)) / (train.std(axis=0) + 1e-5)
        predicted = (x @ weights[:-1] + 100 * weights[-1]).argmax(axis=1)
        assert result.accuracy[1, column] == np.mean(predicted == truth)
    assert result.at(30) == result.accuracy[1, 20]
    assert result.accuracy[1].mean() > result.accuracy[0].mean()


def test_shots_are_drawn_by_seed_and_evenly():
    train, labels = clouds(60, 5, spread=2.0)
    test, truth = clouds(97, 5, seed=1, spread=2.0)
    runs = [few_shot(train, labels, test, truth, (1, 4), seed=seed).accuracy for seed in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()
    alone = few_shot(train, labels, test, truth, (1,), seed=3).accuracy  # fewer shots are some of the more
    np.testing.assert_array_equal(runs[0][:1], alone)


def test_classes_may_have_any_numbers():
    train, labels = clouds(30, 7, spread=0.2)
    test, truth = clouds(21, 7, seed=1, spread=0.2)
    numbers = np.array([4, 900, 77])
    result = few_shot(train, numbers[labels], test, numbers[truth], (5,))
    # Other images are drawn, for the order of the classes is another; but these are far apart.
    assert result.at(5) == few_shot(train, labels, test, truth, (5,)).at(5) == 1


def test_a_feature_that_never_changes_is_no_fault():
    train, labels = clouds(30, 7, spread=0.2)
    train[:, 2] = 5.0
    test, truth = clouds(21, 7, seed=1, spread=0.2)
    test[:, 2] = 5.0
    assert few_shot(train, labels, test, truth, (10,)).at(10) == 1


def test_classes_with_too_few_images_are_all_named():
    train, _ = clouds(10, 7)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    with pytest.raises(ValueError, match=r"4 training images of each class. Received fewer of: 1 \(has 3\), 2 \(h"):
        few_shot(train, labels, train, labels, (1, 4))
    with pytest.raises(ValueError, match=r"fewer of: cat \(has 3\), dog \(has 1\)"):
        few_shot(train, labels, train, labels, (4,), class_names=["ape", "cat", "dog"])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"shots": ()}, r"shots=\(\)"),
        ({"shots": (0,)}, r"shots=0"),
        ({"regularizers": (1.0, 0.0)}, "regularizers above 0"),
        ({"test_labels": np.array([0, 1, 5])}, "Received those of: 5"),
        ({"test_features": np.zeros((0, 7)), "test_labels": np.zeros(0, int)}, "Received: no images"),
        ({"train_labels": np.array([0.5] * 9)}, "an integer for each of 9 images"),
        ({"train_labels": np.array([-1] * 9)}, "labels of 0 or more. Received: labels from -1 to -1"),
    ],
)
def test_wrong_arguments_raise(change, words):
    features, labels = clouds(9, 7)
    arguments = {
        "train_features": features,
        "train_labels": labels,
        "test_features": features[:3],
        "test_labels": labels[:3],
    }
    with pytest.raises(ValueError, match=words):
        few_shot(**{"shots": (2,), **arguments, **change})


def test_values_that_were_not_computed_raise():
    features, labels = clouds(9, 7)
    result = few_shot(features, labels, features, labels, (2,), (1.0,))
    for shots, regularizer in ((3, 1.0), (2, 2.0)):
        with pytest.raises(ValueError, match="Expected shots out of"):
            result.at(shots, regularizer)
