"""The outputs are those of the files' own implementations; a failure names the first tensor that is off."""

import concurrent.futures
import functools

import keras
import numpy as np
import pytest

PLAIN = ("token_32", "token_48x24", "token_32_at_64x40", "rep_32", "headless_32", "gap_32", "unpooled_32")
RESNETS = ("hybrid_111_64", "hybrid_111_64_faint", "hybrid_stem_64", "bit_1111x1_64", "bit_1111x1_64_faint")
PORTS = ("hf_vit_32", "hf_vit_pooler_32", "hf_deit_32", "hf_vit_hybrid_64", "hf_bit_64", "timm_vit_32")
FAMILY = (
    *("hf_dinov2_32", "hf_dinov2_24x48", "hf_dinov2_swiglu_32"),
    *("hf_dinov2_registers_24x48", "hf_dinov2_registers_swiglu_32", "hf_deit_teacher_32"),
    *("timm_dinov2_32", "timm_dinov2_reg4_24x48", "timm_dinov2_giant_32", "timm_deit_distilled_32", "timm_deit3_32"),
)
CASES = (*PLAIN, *RESNETS, *PORTS, *FAMILY)

# In the order of the data's way through the model.
TENSORS = (
    *("stem_first", "stem_pool_first", "stem_pool_last"),
    *(f"stage{stage}_{corner}" for stage in (1, 2, 3, 4) for corner in ("first", "last")),
    *("embedding_first", "embedding_last", "encoder_token0", "encoder_token1", "attentions"),
    *("block0_token0", "block0_token1", "last_block_token0", "encoder_norm_token1", "encoder_norm_last_token"),
    *("pooled", "pre_logits", "logits", "logits_gelu_erf"),
)
# Compiles for JAX in half the time; the numbers stay.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def assert_within(oracle, differences):
    for name in sorted(differences, key=TENSORS.index):
        atol = oracle.LOGITS_ATOL if name.startswith("logits") else oracle.FEATURES_ATOL
        assert differences[name] <= atol, name  # also refuses NaN


@pytest.fixture(scope="module")
def checkpoint(oracle, tmp_path_factory):
    """Returns the path of the checkpoint of a case."""
    return functools.cache(functools.partial(oracle.write, folder=tmp_path_factory.mktemp("checkpoints")))


@pytest.fixture(scope="module", autouse=True)
def on_jax(oracle, run_warm):
    """What the script prints in a process of its own, which runs beside the other tests."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        yield pool.submit(run_warm, oracle.__file__, KERAS_BACKEND="jax", XLA_FLAGS=XLA_FLAGS)


def test_every_case_is_tested(oracle):
    assert set(CASES) == set(oracle.CASES)


def test_the_generator_draws_the_numbers_that_the_references_were_made_with(oracle):
    drawn = oracle.numbers("generator")
    images = drawn.pop("pictures")  # their name in the file of reference numbers
    np.testing.assert_allclose(oracle.made_images(32, 32)[:, [0, 13, 31], [0, 5, 30]], images, atol=1e-6)
    assert len(drawn) > 10
    for line, first in drawn.items():
        np.testing.assert_allclose(oracle.tensor(*oracle.parse(line)).ravel()[:4], first, atol=1e-6, err_msg=line)


@pytest.mark.parametrize("case", CASES)
def test_load(oracle, checkpoint, case):
    result = oracle.load(case, checkpoint(case))
    # The exact GELU is for `build`.
    assert set(oracle.numbers(case)) - set(result) <= {"logits_gelu_erf"}
    assert_within(oracle, oracle.differences(case, result))


@pytest.mark.parametrize("case", CASES)
def test_build(oracle, checkpoint, case):
    assert_within(oracle, oracle.differences(case, oracle.build(case, checkpoint(case))))


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
def test_load_on_jax(oracle, on_jax, case):
    differences = on_jax.result()["differences"][case]
    assert set(oracle.numbers(case)) - set(differences) <= {"logits_gelu_erf"}
    assert_within(oracle, differences)


def test_the_core_runs_on_jax_without_tensorflow(on_jax):
    assert on_jax.result()["backend"] == "jax"
    assert on_jax.result()["imported"] == ["jax"]


def test_the_two_forms_of_gelu_are_told_apart(oracle):
    references = [oracle.numbers(case) for case in CASES]
    described = [one for one in references if "logits_gelu_erf" in one]
    assert len(described) == 9
    for reference in described:
        assert np.abs(reference["logits"] - reference["logits_gelu_erf"]).max() > 2 * oracle.LOGITS_ATOL


def test_these_run_on_the_backend_that_was_asked_for():
    assert keras.backend.backend() == "tensorflow"
