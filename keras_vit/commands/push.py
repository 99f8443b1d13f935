"""`keras-vit push`: uploads a finished run to the Hugging Face Hub, where hf://OWNER/NAME reads it back."""

import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras_vit
from keras_vit.commands.fit import CARD_FILE
from keras_vit.commands.run_folder import LABELS_FILE, METRICS_FILE, MODEL_FILE, read_recipe
from keras_vit.export.proof import read_proof
from keras_vit.export.targets import TARGETS
from keras_vit.weights.contents import check_content, shown
from keras_vit.weights.download import HubRepository, hub_repository, import_hub

logger = logging.getLogger("keras_vit")

PHONE_FILES = {target.file for target in TARGETS.values() if target.file.endswith(".tflite")}
LOAD = "keras_vit.load({})"  # the line of a card that loads its model

_AGAIN = "Push again later: what has arrived is not sent twice"
# {status of the Hub's answer: what it means and what to do}
_ADVICE = {
    401: "The Hub does not know the token. Log in with `hf auth login`, or set HF_TOKEN to a token that may write "
    "(https://huggingface.co/settings/tokens)",
    403: 'The token may not write to {name}. Use one with the role "write" of an account that may',
    404: "The Hub has no such owner or branch, or the token may not see it. Check {name}, and whose token it is",
}


def push(run: str | os.PathLike[str], address: str, *, private: bool = False, dry_run: bool = False) -> str | None:
    """Uploads a finished run to a repository of the Hugging Face Hub, in one commit.

    The repository is made if there is none, and so is the branch that the address names. Files of an earlier push that
    the run does not have are removed in the same commit; all others stay. The token is that of huggingface_hub, from
    HF_TOKEN or `hf auth login`.

    Args:
        run: the folder of the run.
        address: "hf:owner/name" or "hf:owner/name@branch".
        private: whether the repository is private.
        dry_run: whether the files are listed and nothing is sent.

    Returns:
        The address of the commit; None with `dry_run`.

    Raises:
        ImportError: if huggingface_hub is not installed.
        ValueError: if the folder is not that of a finished run with a model card, a file is damaged, the address has
            another form, or the repository is public and `private` is set.
        OSError: if the Hub refuses the upload or cannot be reached; the message says what to do.
    """
    repository = _repository(address)
    files = run_files(run, repository)
    total = sum(map(len_of, files.values()))
    for name, content in files.items():
        logger.info("  %-20s %14s bytes", name, f"{len_of(content):,}")
    if not PHONE_FILES & files.keys():
        logger.info("no .tflite file: `keras-vit export %s --to tflite` makes one", run)
    hub = import_hub()
    api = hub.HfApi(library_name="keras_vit", library_version=keras_vit.__version__)
    place = f"{api.endpoint}/{repository.name}"
    if dry_run:
        logger.info("nothing is sent: %d files, %.2f MB, for %s", len(files), total / 1e6, place)
        return None
    logger.info("sends %d files, %.2f MB, to %s", len(files), total / 1e6, place)
    try:
        return _commit(api, repository, files, private)
    except ValueError:  # one of ours, or the Hub refuses the header of the card
        raise
    except Exception as error:  # of the library, of its HTTP client, and of its threads
        raise _failure(error, repository.name, place) from error


def _repository(address: str) -> HubRepository:
    """Returns the repository of an address; "hf:" means the same as "hf://", as it does for data."""
    name = address.removeprefix("hf:").removeprefix("//")
    try:
        if name == address:
            raise ValueError
        return hub_repository(f"hf://{name}")
    except ValueError as error:
        raise ValueError(
            f"Expected hf:OWNER/NAME or hf:OWNER/NAME@BRANCH, where OWNER is a user or an organization of the Hub. "
            f"Received: {address}"
        ) from error


def len_of(content: pathlib.Path | bytes) -> int:
    """Returns the size of a file in bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def run_files(run: str | os.PathLike[str], repository: HubRepository) -> dict[str, pathlib.Path | bytes]:
    """Returns {name in the repository: file or content} of what a run uploads.

    These are the card as README.md, model.keras, labels.txt if the model has one, and the .tflite files that agree with
    the model. No image, no report and no path of this machine is among them.

    Args:
        run: the folder of the run.
        repository: for the line in the card that loads the model.

    Raises:
        ValueError: if it is not the folder of a finished run with a model card, or a file is damaged.
    """
    folder = pathlib.Path(run)
    recipe = read_recipe(folder)
    missing = [name for name in (METRICS_FILE, MODEL_FILE, CARD_FILE) if not (folder / name).exists()]
    if METRICS_FILE in missing:
        raise ValueError(
            f"Expected a finished run. Received: {folder}, without {METRICS_FILE}. `keras-vit fit --resume {folder}` "
            "finishes it."
        )
    if missing:
        raise ValueError(
            f"Expected a run with {MODEL_FILE} and {CARD_FILE}. Received: {folder}, without {' and '.join(missing)}, "
            f"of objective={recipe.objective or 'classes'}. Pre-training has no card; restore a file that was removed."
        )
    if recipe.evaluation != "official":
        logger.warning(
            "the accuracy in the card is that of evaluation=%s. Users of the repository resize images with "
            "model.preprocess_input; there it can differ a little",
            recipe.evaluation,
        )
    exported = sorted(PHONE_FILES & {item["file"] for item in read_proof(folder)})
    names = [name for name in (MODEL_FILE, LABELS_FILE, *exported) if (folder / name).exists()]
    check_content(folder / MODEL_FILE, MODEL_FILE)
    card = (folder / CARD_FILE).read_text("utf-8")
    at = f"@{repository.revision}" if repository.revision else ""
    card = card.replace(LOAD.format(json.dumps(MODEL_FILE)), LOAD.format(json.dumps(f"hf://{repository.name}{at}")))
    return {"README.md": card.encode(), **{name: folder / name for name in names}}


def _commit(api: Any, repository: HubRepository, files: Mapping[str, pathlib.Path | bytes], private: bool) -> str:
    """Uploads files in one commit; returns its address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import RevisionNotFoundError

    name, revision = repository
    api.create_repo(name, private=private or None, exist_ok=True)
    try:
        there = api.model_info(name, revision=revision)
    except RevisionNotFoundError:
        api.create_branch(name, branch=revision)
        there = api.model_info(name, revision=revision)
    if private and not there.private:
        raise ValueError(
            f"Expected a private repository. Received: {name}, which exists and is public. Make it private in its "
            "settings on the Hub, or push without --private."
        )
    stale = {file.rfilename for file in there.siblings or ()} & ({LABELS_FILE} | PHONE_FILES) - files.keys()
    for file in sorted(stale):
        logger.info("removes %s of an earlier push, which this run does not have", file)
    operations = [
        *(CommitOperationAdd(path_in_repo=file, path_or_fileobj=content) for file, content in files.items()),
        *(CommitOperationDelete(path_in_repo=file) for file in sorted(stale)),
    ]
    message = f"Upload a model of keras_vit {keras_vit.__version__}"
    return str(api.create_commit(name, operations, commit_message=message, revision=revision).commit_url)


def _failure(error: Exception, name: str, place: str) -> OSError:
    """Returns an error of an upload to a place in one message, with what to do."""
    errors = [*_causes(error)]
    answer = next((response for each in errors if (response := getattr(each, "response", None)) is not None), None)
    if answer is None:
        return OSError(
            f"Cannot push to {place}: {shown(errors[-1]) or type(errors[-1]).__name__}. Check the network, HF_ENDPOINT "
            f"and HF_HUB_OFFLINE. {_AGAIN}."
        )
    said = shown(answer.headers.get("x-error-message", ""))
    advice = _ADVICE.get(answer.status_code, _AGAIN).format(name=name)
    return OSError(f"Cannot push to {place}: status {answer.status_code}{said and f', {said}'}. {advice}.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and the errors that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
