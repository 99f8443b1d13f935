"""Checks that other projects read what `keras_vit.save_checkpoint` writes, and the other way round; run by hand.

Each step runs in the Python that has what it needs, the second one once for every peer:

    python tests/peers/check_peers.py write FOLDER     # keras_vit: models with random weights, in every layout
    python tests/peers/check_peers.py compare FOLDER   # torch, transformers or timm or both: read them, write their own
    python tests/peers/check_peers.py read FOLDER      # keras_vit: reads those

Lines end with the largest absolute difference of the outputs, in float32, and how much is allowed: about five times
what correct implementations differ by, from the order of their sums. No weight is left at 0 or 1. "Moved" is how far
the outputs are from those of the model that was written, where the project computes with other epsilons.
"""

import contextlib
import importlib.util
import json
import pathlib
import sys
from typing import NamedTuple

import numpy as np

CLASSES = 11
SPREAD = {1: 0.2, 3: 0.5}  # of the numbers of a bias or a norm, and of a token, by axes; kernels keep their input's
SIZES = {"patch_size": 7, "hidden_size": 40, "num_layers": 3, "num_heads": 5, "mlp_dim": 52}
STEM = {"units": (1, 2, 1), "widths": (128, 256, 128)}
TOKEN = {"include_top": False, "pooling": "token"}
DINOV2 = {**SIZES, "mlp_dim": 80, "layer_scale": 1e-5}  # transformers 5 reads whole ratios of the widths alone
COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bicubic"}


class Case(NamedTuple):
    """A model: the name of an architecture or the fields of a row, and arguments of `keras_vit.build`."""

    variant: object
    image_size: tuple = (35, 35)
    sources: str = "hf timm"
    arguments: dict = {}
    channels: int = 3
    pixels: dict = {}
    allowed: float = 1e-4


CASES = {
    "vit": Case(SIZES),
    "vit_erf": Case(SIZES, arguments={"gelu": "erf"}),
    "vit_epsilon": Case(SIZES, sources="hf", arguments={"norm_epsilon": 1e-3}),
    "vit_35x49": Case(SIZES, (35, 49)),
    "vit_channels": Case(SIZES, channels=5),
    "vit_crop": Case(SIZES, pixels={**COLOURS, "crop": 0.875}),
    "vit_squash": Case(SIZES, pixels={**COLOURS, "crop": 0.875, "keep_aspect": False}),
    "vit_token": Case(SIZES, sources="timm", arguments=TOKEN),
    "vit_tokens": Case(SIZES, sources="hf", arguments={"include_top": False}),
    "vit_pooler": Case(SIZES, sources="hf", arguments={**TOKEN, "representation_size": 37}),
    "vit_gap": Case(SIZES, sources="timm", arguments={"pooling": "gap"}),
    "deit": Case({**SIZES, "distillation_token": True}, sources="hf"),
    "deit_tokens": Case({**SIZES, "distillation_token": True}, sources="hf", arguments={"include_top": False}),
    "deit_two_heads": Case({**SIZES, "distillation_token": True, "pooling": "token+distillation"}),
    "dinov2": Case({**DINOV2, "pooling": "token+gap"}, sources="hf"),
    "dinov2_token": Case({**DINOV2, "register_tokens": 4, "swiglu": True}, sources="timm", arguments=TOKEN),
    "dinov2_tokens": Case(
        {**DINOV2, "register_tokens": 4, "swiglu": True}, sources="hf", arguments={"include_top": False}
    ),
    "deit3": Case({**SIZES, "layer_scale": 1e-5}, (35, 49), sources="timm"),
    "hybrid": Case({**SIZES, "patch_size": 2, "stem": STEM}, (83, 83), "hf"),
    "hybrid_35x67": Case({**SIZES, "patch_size": 1, "stem": STEM}, (35, 67), "hf"),
    "hybrid_pooler": Case(
        {**SIZES, "patch_size": 1, "stem": STEM}, (53, 53), "hf", {**TOKEN, "representation_size": 40}
    ),
    "stem_alone": Case({**SIZES, "patch_size": 3, "stem": {"units": (), "widths": ()}}, (47, 47)),
    "stem_remainder": Case({**SIZES, "patch_size": 3, "stem": {"units": (), "widths": ()}}, (53, 53), "hf"),
    "bit": Case({"units": (1, 2), "widths": (128, 256)}, (51, 37), "hf"),
    "bit_map": Case({"units": (2, 1), "widths": (256, 128)}, (51, 37), "hf", {"include_top": False}),
    "vit_tiny_patch16_224": Case("ViT-Ti/16", (64, 64), "npz hf timm"),
    "deit_tiny_patch16_224": Case("ViT-Ti/16", (96, 96), "timm", {"gelu": "erf"}),
    "vit_base_patch16_224": Case("ViT-B/16", (224, 224), "npz hf timm"),
    "vit_tiny_r_s16_p8_224": Case("R+ViT-Ti/16", (96, 96), "npz hf timm"),
    "vit_small_r26_s32_224": Case("R26+ViT-S/32", (96, 64)),
    "vit_base_r50_s16_224": Case("R50+ViT-B/16", (64, 64), "npz hf timm", allowed=2e-4),
    "r50_b32": Case("R50+ViT-B/32", (64, 64), allowed=5e-4),
    "resnetv2_50x1_bit": Case("BiT-R50x1", (96, 96), "bit hf timm"),
}


def report(title, case, found, expected):
    difference = np.abs(np.reshape(found, np.shape(expected)) - expected).max()
    print(f"{title:60s} {difference:.1e} of {case.allowed:.0e}{'' if difference <= case.allowed else '  TOO MUCH'}")


@contextlib.contextmanager
def told(title):
    """Goes on with the next one after an error, which is a finding, too."""
    try:
        yield
    except Exception as error:
        print(f"{title:60s} FAILED: {type(error).__name__}: {str(error)[:500]}")


# --- write ---


def model_of(case):
    import keras

    import keras_vit

    row = case.variant
    if isinstance(row, dict):
        row = keras_vit.ResNet(**row) if "units" in row else keras_vit.Variant(**row)
    arguments = {"classes": CLASSES, "classifier_activation": None, **case.arguments}
    model = keras_vit.build(row, input_shape=(*case.image_size, case.channels), **arguments)
    model.pixels = keras_vit.Pixels(**case.pixels)
    rng = np.random.default_rng(5)
    for weight in model.weights:
        scale = SPREAD.get(len(weight.shape)) or np.prod(weight.shape[:-1]) ** -0.5
        weight.assign(rng.normal(weight.name == "gamma", scale, weight.shape))
        if np.isin(keras.ops.convert_to_numpy(weight), (0, 1)).any():
            raise ValueError(f"{weight.path} has a weight that shows nothing")
    return model


def load_again(path, case):
    """Returns what keras_vit makes of a file, told what no file of the source says."""
    import keras

    import keras_vit

    arguments = {name: case.arguments.get(name) for name in ("gelu", "norm_epsilon", "representation_size")}
    arguments["gelu"] = arguments["gelu"] or "tanh"
    if "num_heads" in case.variant:
        arguments["num_heads"] = case.variant["num_heads"]
    shape = (*case.image_size, case.channels)
    model = keras_vit.load(path, input_shape=shape, classifier_activation=None, **arguments)
    if case.arguments == {"include_top": False}:
        named = {layer.name: layer for layer in model.layers}
        return keras.Model(model.input, named.get("relu", named["norm"]).output)
    return model


def write(folder):
    import keras

    from keras_vit.conversion import save_checkpoint

    for name, case in CASES.items():
        model = model_of(case)
        rng = np.random.default_rng(7)
        images = rng.uniform(-1, 1, (2, *model.input_shape[1:])).astype("float32")
        crop = case.pixels.get("crop") or 1
        photo = rng.integers(0, 256, (*(round(side / crop) for side in case.image_size), case.channels), np.uint8)
        prepared = keras.ops.convert_to_numpy(model.preprocess_input(photo))
        weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
        for source in case.sources.split():
            path = folder / f"{name}.{source}" / ("file.npz" if source in ("npz", "bit") else "files")
            save_checkpoint(model, path, source)
            again = load_again(path, case)
            result = {weight.path: keras.ops.convert_to_numpy(weight) for weight in again.weights}
            same = weights.keys() == result.keys() and all(np.array_equal(weights[one], result[one]) for one in result)
            outputs = keras.ops.convert_to_numpy(again(images))
            moved = np.abs(outputs - keras.ops.convert_to_numpy(model(images))).max()
            print(f"{name} {source}: {'same' if same else 'OTHER'} weights; outputs moved by {moved:.1e}")
            arrays = {"images": images, "outputs": outputs, "photo": photo, "prepared": prepared}
            np.savez(path.with_name("outputs.npz"), **arrays)


# --- compare ---


def compare(folder):
    declare_torchvision()
    for library, readers, write_own in (("transformers", HF, own_of_transformers), ("timm", TIMM, own_of_timm)):
        if importlib.util.find_spec(library) is None:
            continue
        version = f"{library} {importlib.import_module(library).__version__}"
        for name, case in CASES.items():
            for source, reader in ((one, reader) for one in case.sources.split() for reader in readers.get(one, ())):
                title = f"{name} {source}: {version}, {reader.__name__}"
                with told(title):
                    # An official file's epsilons and timm's differ, the weights do not.
                    place = folder / f"{name}.{'timm' if source in ('npz', 'bit') else source}"
                    with np.load(place / "outputs.npz") as file:
                        result = reader(name, case, folder / f"{name}.{source}", dict(file))
                    if result is not None:
                        report(title, case, *result)
        with told(f"own files of {version}"):
            write_own(folder / "own" / version.replace(" ", "-"))


def forward(model, images):
    import torch

    with torch.inference_mode():
        return model.eval()(torch.tensor(images.transpose(0, 3, 1, 2).copy()))


def from_pretrained(name, case, place, arrays):
    import transformers

    [kind] = json.loads((place / "files/config.json").read_text())["architectures"]
    if not hasattr(transformers, kind):
        return None  # the hybrids went with version 5
    model, told = getattr(transformers, kind).from_pretrained(place / "files", output_loading_info=True)
    wrong = {fault: sorted(names) for fault, names in told.items() if names}
    # The pooler of a model without one is transformers' own, and unread here.
    if wrong and case.arguments != {"include_top": False}:
        raise ValueError(wrong)
    result = forward(model, arrays["images"])
    return result.pooler_output if "representation_size" in case.arguments else outputs_of(result), arrays["outputs"]


def outputs_of(found):
    if "logits" in found:
        return found.logits
    return found.last_hidden_state.movedim(1, -1) if found.last_hidden_state.ndim == 4 else found.last_hidden_state


def processor(name, case, place, arrays):
    from transformers import AutoImageProcessor

    if case.channels != 3 or importlib.util.find_spec("PIL") is None:
        return None
    result = AutoImageProcessor.from_pretrained(place / "files")(arrays["photo"], return_tensors="np")
    return result["pixel_values"][0].transpose(1, 2, 0), arrays["prepared"]


def local_dir(name, case, place, arrays):
    import timm

    model = timm.create_model(f"local-dir:{place / 'files'}", pretrained=True)
    return forward(model, arrays["images"]), arrays["outputs"]


def transform(name, case, place, arrays):
    import timm
    from PIL import Image

    if case.channels != 3:
        return None
    model = timm.create_model(f"local-dir:{place / 'files'}")
    make = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    return make(Image.fromarray(arrays["photo"])).movedim(0, -1), arrays["prepared"]


def timm_model(name, case, **kwargs):
    import timm

    if not timm.is_model(name):
        return None
    if "BiT" not in case.variant:
        kwargs |= {"img_size": case.image_size}
        kwargs |= {} if case.arguments.get("gelu") == "erf" else {"act_layer": "gelu_tanh"}
    return timm.create_model(name, num_classes=CLASSES, **kwargs)


def by_name(name, case, place, arrays):
    model = timm_model(name, case, checkpoint_path=place / "files/model.safetensors")
    return model and (forward(model, arrays["images"]), arrays["outputs"])


def load_pretrained(name, case, place, arrays):
    model = timm_model(name, case)
    model.load_pretrained(str(place / "file.npz"))
    return forward(model, arrays["images"]), arrays["outputs"]


HF = {"hf": (from_pretrained, processor)}
TIMM = {"timm": (local_dir, by_name, transform), "npz": (load_pretrained,), "bit": (load_pretrained,)}


def shaken(model):
    import torch

    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        with torch.no_grad():
            scale = SPREAD.get(weight.ndim) or float(weight[0].numel()) ** -0.5
            is_scale = "norm" in name and name.endswith("weight")
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale + is_scale)
    return model.eval()


def own_of_transformers(folder):
    import transformers

    vit = {"hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 5, "intermediate_size": 52}
    vit |= {"image_size": 35, "patch_size": 7, "num_labels": CLASSES}
    bit = {"depths": [1, 2], "hidden_sizes": [128, 256], "num_labels": CLASSES}
    stem = {"layer_type": "bottleneck", "global_padding": "SAME", "embedding_dynamic_padding": True}
    own = {
        "ViTForImageClassification": transformers.ViTConfig(**vit),
        "ViTModel": transformers.ViTConfig(**vit),
        "DeiTForImageClassification": transformers.DeiTConfig(**vit, layer_norm_eps=1e-6),
        "BitForImageClassification": transformers.BitConfig(**bit),
    }
    if hasattr(transformers, "ViTHybridConfig"):
        backbone = transformers.BitConfig(**bit, **stem, out_features=["stage2"])
        vit |= {
            "backbone_config": backbone,
            "backbone_featmap_shape": [1, 256, 7, 7],
            "image_size": 53,
            "patch_size": 2,
        }
        own["ViTHybridForImageClassification"] = transformers.ViTHybridConfig(**vit)
    for kind, config in own.items():
        # Version 4.57 cannot initialize its hybrid.
        skip = transformers.modeling_utils.no_init_weights if "Hybrid" in kind else contextlib.nullcontext
        with skip():
            model = shaken(getattr(transformers, kind)(config))
        model.save_pretrained(folder / kind)
        side = getattr(config, "image_size", 53)
        images = np.random.default_rng(7).uniform(-1, 1, (2, side, side, 3)).astype("float32")
        result = outputs_of(forward(model, images))
        result = result[:, 0] if kind == "ViTModel" else result  # the class token, what `keras_vit.load` gives
        np.savez(folder / kind / "outputs.npz", images=images, outputs=result)


def own_of_timm(folder):
    import timm
    from safetensors.torch import save_file

    for name, size in {
        "vit_tiny_patch16_224": {"img_size": 64},
        "deit_tiny_patch16_224": {"img_size": 96},
        "vit_tiny_r_s16_p8_224": {"img_size": 96},
        "vit_small_r26_s32_224": {"img_size": 64},
        "vit_base_r50_s16_224": {"img_size": 64},
        "resnetv2_50x1_bit": {},
    }.items():
        model = shaken(timm.create_model(name, num_classes=CLASSES, **size))
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), folder / name / "model.safetensors")
        side = size.get("img_size", 96)
        images = np.random.default_rng(7).uniform(-1, 1, (2, side, side, 3)).astype("float32")
        outputs = forward(model, images).numpy()
        np.savez(folder / name / "outputs.npz", images=images, outputs=outputs)


def declare_torchvision():
    """Declares two operators that a torchvision built for CUDA misses beside a torch for CPUs; no ViT uses them."""
    import torch

    if not torch.cuda.is_available():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        declare_torchvision.library = library  # the operators live as long as it does


# --- read ---


def read(folder):
    import keras

    import keras_vit

    for place in sorted(folder.glob("own/*/*")):
        title = f"keras_vit: {place.parent.name} {place.name}"
        with told(title), np.load(place / "outputs.npz") as file:
            images, expected = file["images"], file["outputs"]
            model = keras_vit.load(place, input_shape=images.shape[1:], classifier_activation=None)
            case = CASES.get(place.name, Case(None))
            report(title, case, keras.ops.convert_to_numpy(model(images)), expected)


if __name__ == "__main__":
    step, folder = sys.argv[1:]
    {"write": write, "compare": compare, "read": read}[step](pathlib.Path(folder))
