"""`keras-vit zero-shot`: writes a classifier of labels that are words, and exports it."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import keras_vit
from keras_vit._atomic import locked, written_aside
from keras_vit.commands.export import export
from keras_vit.commands.image_model import remark_on_license
from keras_vit.commands.run_folder import MODEL_FILE, RUN_FILE
from keras_vit.data.sources import BUILT_IN
from keras_vit.export.proof import Agreement
from keras_vit.export.targets import check_requirements, targets_named
from keras_vit.export.writing import check_writable
from keras_vit.models.class_names import FILE, write_names


class ZeroShot(NamedTuple):
    """What the command wrote.

    Args:
        path: the model.
        class_names: the labels, and those of `reject`.
        added: by how much the model is larger than its image tower, as a fraction of its weights.
        agreements: the comparison of each exported file with the model.
    """

    path: pathlib.Path
    class_names: tuple[str, ...]
    added: float
    agreements: list[Agreement]


def write_zero_shot(
    checkpoint: str | os.PathLike[str],
    labels: Sequence[str],
    templates: str | Sequence[str] | None = None,
    reject: Sequence[str] = (),
    *,
    targets: Sequence[str] = (),
    output: str | os.PathLike[str] = "zero_shot",
    image_size: tuple[int, int] | None = None,
    data: str | os.PathLike[str] | None = None,
    license: str | None = None,
) -> ZeroShot:
    """Writes model.keras and labels.txt of `keras_vit.zero_shot` into a folder, and exports the model.

    Args:
        checkpoint, labels, templates, reject: as in `keras_vit.zero_shot`.
        targets: names out of `keras_vit.export.targets.TARGETS`.
        output: the folder; a model that is there is replaced.
        image_size: (height, width) of the images in pixels; None for the checkpoint's own.
        data: images to compare the exported files on, as in `keras_vit.commands.export.export`.
        license: of the checkpoint, for the metadata of the files.

    Raises:
        ExportsRefused: if files cannot be exported or do not agree with the model; all others are kept.
        ImportError: if a package is missing that a target or the tokenizer needs.
        ValueError: as `keras_vit.zero_shot`, or if the folder is that of a run.
    """
    check_requirements(targets_named(targets))
    folder = pathlib.Path(output)
    if (folder / RUN_FILE).exists():
        raise ValueError(f"Expected a folder without a run, whose model would be replaced. Received: output={folder}")
    if (folder / "proof.json").exists():
        raise ValueError(
            "Expected a folder without exported files, which would stay those of other labels. Received: "
            f"output={folder}. Choose another --output, or remove the folder"
        )
    if data is not None and str(data) not in BUILT_IN and ":" not in str(data) and not os.path.exists(data):
        raise ValueError(f"Expected images to compare the exported files on. Received: data={data}, which is not there")
    tower = keras_vit.load(checkpoint, input_shape=(*image_size, 3) if image_size else None)
    model = keras_vit.zero_shot(checkpoint, labels, templates, reject, model=tower)
    check_writable(folder)
    path = folder / MODEL_FILE
    with locked(folder), written_aside(path) as aside:
        model.save(aside)
        write_names(folder / FILE, model.class_names or ())
    agreements: list[Agreement] = []
    if not targets:
        remark_on_license(model)
    else:
        facts = {"name": folder.resolve().name, "license": license}
        _, agreements = export(path, targets, folder, data, facts=facts)
    added = model.count_params() / tower.count_params() - 1
    return ZeroShot(path, model.class_names or (), added, agreements)
