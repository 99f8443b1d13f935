"""The outputs are those of the official implementation; a failure names the first tensor that is off."""

import keras
import numpy as np
import pytest

CASES = ("token_32", "token_48x24", "token_32_at_64x40", "rep_32", "headless_32", "gap_32", "unpooled_32")

# In the order of the data's way through the model.
TENSORS = (
    "embedding_first",
    "embedding_last",
    "block0_token0",
    "block0_token1",
    "last_block_token0",
    "encoder_norm_last_token",
    "pooled",
    "pre_logits",
    "logits",
    "logits_gelu_erf",
)


def assert_within(oracle, differences):
    assert "logits" in differences
    for name in sorted(differences, key=TENSORS.index):
        atol = oracle.LOGITS_ATOL if name.startswith("logits") else oracle.FEATURES_ATOL
        assert differences[name] <= atol, name  # also refuses NaN


@pytest.fixture(scope="module")
def on_jax(oracle, run_python):
    return run_python(oracle.__file__, KERAS_BACKEND="jax")


def test_every_case_is_tested(oracle):
    assert set(CASES) == set(oracle.CASES)


def test_the_generator_draws_the_numbers_that_the_references_were_made_with(oracle):
    drawn = oracle.numbers("generator")
    np.testing.assert_allclose(oracle.pictures(32, 32)[:, [0, 13, 31], [0, 5, 30]], drawn.pop("pictures"), atol=1e-6)
    for key, first in drawn.items():
        name = key.replace(".", "/")
        np.testing.assert_allclose(oracle.tensor(name, oracle.shapes()[name]).ravel()[:4], first, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_parity(oracle, tmp_path, case):
    assert_within(oracle, oracle.differences(case, tmp_path / "checkpoint.npz"))


@pytest.mark.parametrize("case", CASES)
def test_parity_on_jax(oracle, on_jax, case):
    assert_within(oracle, on_jax["differences"][case])


def test_the_core_runs_on_jax_without_tensorflow(on_jax):
    assert on_jax["backend"] == "jax"
    assert on_jax["imported"] == ["jax"]


def test_the_two_forms_of_gelu_are_told_apart(oracle):
    for case in set(CASES) - {"unpooled_32"}:
        reference = oracle.numbers(case)
        assert np.abs(reference["logits"] - reference["logits_gelu_erf"]).max() > 2 * oracle.LOGITS_ATOL


def test_these_run_on_the_backend_that_was_asked_for():
    assert keras.backend.backend() == "tensorflow"
