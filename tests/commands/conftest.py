import pytest


@pytest.fixture(scope="module", autouse=True)
def compared_once(regression_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_vit.commands.verdict.logistic_regression", regression_once)
        yield


@pytest.fixture(scope="module", autouse=True)
def measured_once_a_kind(request, measured_once):
    """A module that is about the figures themselves sets MEASURED = True, and each of its files is measured."""
    if not getattr(request.module, "MEASURED", False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("keras_vit.export.writing.latency_and_memory", measured_once)
            yield
    else:
        yield
