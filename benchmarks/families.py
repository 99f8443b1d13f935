"""Compares the families of published checkpoints with their projects: python benchmarks/families.py

transformers and timm make a model of each family with random weights, tiny and of a published size, and save it in
their own format. A cell of the table is the largest difference from what the project computes, on two images:
  read          the output of `keras_vit.load` of the saved folder, without arguments
  written       the output of the project, from the folder that `keras_vit.save_checkpoint` wrote
  other size    the output for images of another size, from the project's resize of its file
  JAX, PyTorch  as read, on these backends of Keras
  tflite-float32, tflite-int8, onnx, savedmodel, web
                the comparison of the exported file with the Keras model, on eight images

Project "other" has names that no library at hand reads (OpenCLIP's, big_vision's): timm's arrays, renamed, are
compared with timm's output. Each part of a row runs in a process of its own; a part that fails has its reason in the
cell, and the next one runs. Results are saved in --output as they come: a second start continues there.

Exits with status 1 if a part failed, a file was refused, or a difference of the first five columns is larger than 2e-5
(tiny) or 1e-4 (real).
"""

import argparse
import collections
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback
import zlib

import numpy as np

OUTPUT = pathlib.Path(__file__).parents[1] / "docs" / "results" / "families.json"
SIZES = ("tiny", "real")
MOST = {"tiny": 2e-5, "real": 1e-4}
READ = ("read", "written", "other size")
BACKENDS = {"JAX": "jax", "PyTorch": "torch"}
EXPORTS = ("tflite-float32", "tflite-int8", "onnx", "savedmodel", "web")
COLUMNS = (*READ, *BACKENDS, *EXPORTS)
PROOF_IMAGES = 8
CLASSES = {"tiny": 10, "real": 1000}  # of a model with a head for classes
PROJECTION = {"tiny": 16, "real": 512}


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table, at each of the two sizes.

    Args:
        family: its name, and that of what is special.
        project: "transformers", "timm" or "other".
        member: the published size; for timm the architecture's name.
        model: for transformers, the class of the model; for timm, the outputs: "classes", "projection" or "".
        config: for transformers, the fields of the configuration beside its defaults; for timm, arguments of the model.
        renamed: for "other", the function below that renames timm's arrays.
        whole: whether its files are exported, and its published size is read on each backend: one row of each kind of
            model, as these do not depend on the file that a model is from.
        cut: what the published size is made smaller by, in words.
    """

    family: str
    project: str
    member: str
    model: str = ""
    config: dict = dataclasses.field(default_factory=dict)
    renamed: str = ""
    whole: bool = False
    cut: str = ""

    @property
    def name(self) -> str:
        return f"{self.family}, {self.project}"

    def columns(self, size):
        """Returns the columns that the row has."""
        return [
            column
            for column in COLUMNS
            if self.whole or column not in EXPORTS and (size == "tiny" or column not in BACKENDS)
        ]


def _case(*arguments, **options):
    fields = {field.name for field in dataclasses.fields(Case)}
    config = {name: value for name, value in options.items() if name not in fields}
    return Case(*arguments, config=config, **{name: value for name, value in options.items() if name in fields})


_TOKEN = {"global_pool": "token"}
CASES = [
    _case("SigLIP", "transformers", "B/16 at 224", "SiglipVisionModel"),
    _case("SigLIP", "timm", "vit_base_patch16_siglip_224"),
    _case("SigLIP", "other", "vit_base_patch16_siglip_224", renamed="big_vision", act_layer="gelu_tanh"),
    _case(
        "SigLIP 2",
        "transformers",
        "B/32 at 256, with its text tower",
        "SiglipModel",
        image_size=256,
        patch_size=32,
        whole=True,
        cut="text tower of 1 layer and 1,000 words",
    ),
    _case("SigLIP 2", "timm", "vit_base_patch32_siglip_256"),
    _case("CLIP", "transformers", "B/32 at 224", "CLIPVisionModelWithProjection", whole=True),
    _case("CLIP", "timm", "vit_base_patch32_clip_224.laion2b", "projection"),
    _case("CLIP", "other", "vit_base_patch32_clip_224.laion2b", "projection", renamed="open_clip"),
    _case("DINOv3", "transformers", "S/16 at 224", "DINOv3ViTModel", num_register_tokens=4, whole=True),
    _case("DINOv3", "timm", "vit_small_patch16_dinov3", **_TOKEN),
    _case(
        "DINOv3, gated MLP",
        "transformers",
        "S+/16 at 224",
        "DINOv3ViTModel",
        num_register_tokens=4,
        use_gated_mlp=True,
        hidden_act="silu",
    ),
    _case("DINOv3, gated MLP", "timm", "vit_small_plus_patch16_dinov3", **_TOKEN, whole=True),
    _case("EUPE", "timm", "vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", **_TOKEN, whole=True),
    _case("MAE", "transformers", "B/16 at 224", "ViTMAEForPreTraining"),
    _case("MAE", "timm", "vit_base_patch16_224.mae", whole=True),
    _case(
        "I-JEPA",
        "transformers",
        "H/14 at 224",
        "IJepaModel",
        hidden_size=1280,
        num_attention_heads=16,
        intermediate_size=5120,
        patch_size=14,
        num_hidden_layers=4,
        cut="4 of 32 layers",
        whole=True,
    ),
    _case("I-JEPA", "timm", "vit_huge_patch14_gap_224.in1k_ijepa", depth=4, cut="4 of 32 layers"),
    _case(
        "BEiT",
        "transformers",
        "B/16 at 224",
        "BeitForImageClassification",
        use_relative_position_bias=True,
        use_absolute_position_embeddings=False,
    ),
    _case("BEiT", "timm", "beit_base_patch16_224", "classes", whole=True),
    _case("EVA-02", "timm", "eva02_small_patch14_224", "classes", whole=True),
    _case("EVA-02, norm in the MLP", "timm", "eva02_base_patch14_224", "classes", whole=True),
    _case("PE core", "timm", "vit_pe_core_tiny_patch16_384", "projection", whole=True),
    _case("PE spatial", "timm", "vit_pe_spatial_tiny_patch16_512", whole=True),
    _case("PE lang", "timm", "vit_pe_lang_large_patch14_448", depth=2, cut="2 of 23 layers", whole=True),
    _case("TIPSv2", "timm", "vit_base_patch14_reg1_tipsv2", whole=True),
    _case("FlexiViT", "timm", "flexivit_small", "classes", whole=True),
    _case("FlexiViT", "other", "flexivit_small", "classes", renamed="big_vision", act_layer="gelu_tanh"),
]
# What is tiny, in the words of each project; 64 channels, as the rotary positions need 4 of each of 4 heads.
TINY_TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4}
TINY_TRANSFORMERS = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
TINY_OF = {
    "CLIPVisionModelWithProjection": {"projection_dim": PROJECTION["tiny"]},
    "BeitForImageClassification": {"num_labels": CLASSES["tiny"]},
    "ViTMAEForPreTraining": {
        "decoder_hidden_size": 32,
        "decoder_num_attention_heads": 4,
        "decoder_num_hidden_layers": 1,
        "decoder_intermediate_size": 48,
    },
}
REAL_OF = {"BeitForImageClassification": {"num_labels": CLASSES["real"]}}


# ---------------------------------------------------------------------------------------------------------------------
# The projects' models; torch, timm and transformers are imported by these processes alone


def randomize(model):
    """Sets every parameter to seeded noise of a size that lets each of them count, and none is 0 or 1."""
    import torch

    for name, parameter in model.named_parameters():
        noise = np.random.default_rng([0, zlib.crc32(name.encode())]).standard_normal(parameter.shape, np.float32)
        *_, leaf = name.split(".")
        if "bias" in leaf and "table" not in leaf:
            noise *= 0.02
        elif leaf.startswith(("gamma", "lambda")):
            noise = 0.5 + 0.1 * noise
        elif "table" in leaf:
            noise *= 0.5
        elif any(word in name for word in ("token", "pos_embed", "position", "class_embedding")):
            noise *= 0.1
        elif leaf in ("latent", "probe") or not noise.ndim:
            pass
        elif noise.ndim == 1:
            noise = 1 + 0.1 * noise
        else:
            noise /= np.sqrt(np.prod(noise.shape[1:]))
        parameter.data = torch.from_numpy(np.asarray(noise, np.float32))


def made(case, size, folder):
    """Makes the project's model of a case and saves it in its own format; returns it with its image size and patch."""
    if case.project == "transformers":
        model = made_by_transformers(case, size)
        model.save_pretrained(folder)
        config = getattr(model.config, "vision_config", model.config)
        return model, config.image_size, config.patch_size
    import timm

    arguments = {**case.config, **(TINY_TIMM if size == "tiny" else {})}
    if size == "tiny" and case.renamed == "open_clip":
        arguments["num_heads"] = 1  # the file does not show it, and heads of 64 are assumed
    outputs = {"classes": CLASSES, "projection": PROJECTION}.get(case.model, dict.fromkeys(SIZES, 0))[size]
    model = timm.create_model(case.member, pretrained=False, num_classes=outputs, **arguments).eval()
    randomize(model)
    if case.renamed == "open_clip":
        model.head.bias.data[:] = 0  # OpenCLIP's projection has none
    if case.renamed:
        folder.mkdir()
        arrays = {name: array.detach().numpy() for name, array in model.state_dict().items()}
        RENAMED[case.renamed](arrays, folder, model.blocks[0].attn.num_heads)
    else:
        config = {name: value for name, value in arguments.items() if name != "global_pool"}
        timm.models.save_for_hf(model, folder, model_args=config, safe_serialization=True)
    return model, model.patch_embed.img_size[0], model.patch_embed.patch_size[0]


def made_by_transformers(case, size):
    import transformers

    kind = getattr(transformers, case.model)
    fields = {**case.config, **(TINY_TRANSFORMERS if size == "tiny" else {})}
    fields |= (TINY_OF if size == "tiny" else REAL_OF).get(case.model, {})
    if case.model == "SiglipModel":
        text = {"vocab_size": 1000, "num_hidden_layers": 1, **({"hidden_size": 64} if size == "tiny" else {})}
        text |= {"num_attention_heads": 4, "intermediate_size": 96} if size == "tiny" else {}
        fields = {"vision_config": fields, "text_config": text}
    model = kind(kind.config_class(**fields)).eval()
    randomize(model)
    return model


def outputs_of(model, images, native=True):
    """Returns what the project's model computes for images: what the model of `keras_vit.load` does."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    kind = type(model).__name__
    sized = {} if native or kind.startswith("DINOv3") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        if not hasattr(model, "config"):
            return model(pixels).numpy()
        if kind == "SiglipModel":
            model = model.vision_model
        if kind == "ViTMAEForPreTraining":
            # Noise in rising order and no mask leave every token in its place.
            model, patches = model.vit, images.shape[1] * images.shape[2] // model.config.patch_size**2
            model.config.mask_ratio = 0.0
            sized["noise"] = torch.arange(patches, dtype=torch.float32).repeat(len(images), 1)
        output = model(pixel_values=pixels, **sized)
        for name in ("logits", "image_embeds"):
            if getattr(output, name, None) is not None:
                return output[name].numpy()
        if kind in ("ViTMAEForPreTraining", "ViTModel"):
            return output.last_hidden_state[:, 0].numpy()
        return (output.last_hidden_state.mean(1) if kind == "IJepaModel" else output.pooler_output).numpy()


def read_back(case, folder, images):
    """Returns what the project computes from the folder that keras_vit wrote, once every array in it is read."""
    if case.project == "timm":
        import timm

        return outputs_of(timm.create_model(f"local-dir:{folder}", pretrained=True).eval(), images)
    import transformers

    config = json.loads((folder / "config.json").read_text("utf-8"))
    kind = getattr(transformers, config["architectures"][0])
    options = {"add_pooling_layer": False} if kind.__name__ in ("ViTModel", "IJepaModel", "BeitModel") else {}
    model, about = kind.from_pretrained(folder, output_loading_info=True, **options)
    if wrong := {name: list(value)[:3] for name, value in about.items() if value}:
        raise ValueError(f"transformers does not read what keras_vit wrote: {wrong}")
    return outputs_of(model.eval(), images)


def to_open_clip(arrays, folder, heads):
    """Writes timm's arrays of a CLIP in OpenCLIP's names."""
    from safetensors.numpy import save_file

    names = {"cls_token": "class_embedding", "pos_embed": "positional_embedding", "patch_embed.proj": "conv1"}
    names |= {"norm_pre": "ln_pre", "norm": "ln_post"}
    inside = {"norm1": "ln_1", "norm2": "ln_2", "attn.proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc"}
    inside |= {"mlp.fc2": "mlp.c_proj"}
    result = {"visual.proj": np.ascontiguousarray(arrays.pop("head.weight").T)}
    del arrays["head.bias"]
    for name, array in arrays.items():
        if name.startswith("blocks."):
            _, i, rest = name.split(".", 2)
            layer, kind = rest.rsplit(".", 1)
            new = f"attn.in_proj_{kind}" if layer == "attn.qkv" else f"{inside[layer]}.{kind}"
            result[f"visual.transformer.resblocks.{i}.{new}"] = array
        elif name in names:
            result[f"visual.{names[name]}"] = array.reshape(array.shape[-2:] if name == "pos_embed" else -1)
        else:
            layer, kind = name.rsplit(".", 1)
            result[f"visual.{names[layer]}.{kind}"] = array
    save_file(result, folder / "model.safetensors")


def to_big_vision(arrays, folder, heads):
    """Writes timm's arrays in big_vision's names, as an .npz file."""
    prefix = "params/img" if "attn_pool.latent" in arrays else "params"
    size, result = arrays["norm.weight"].shape[0], {}

    def put(name, value):
        result[f"{prefix}/{name}"] = np.ascontiguousarray(value)

    def norm(name, timm):
        put(f"{name}/scale", arrays[f"{timm}.weight"])
        put(f"{name}/bias", arrays[f"{timm}.bias"])

    def dense(name, timm):
        put(f"{name}/kernel", arrays[f"{timm}.weight"].T)
        put(f"{name}/bias", arrays[f"{timm}.bias"])

    def mlp(name, timm):
        dense(f"{name}/Dense_0", f"{timm}.fc1")
        dense(f"{name}/Dense_1", f"{timm}.fc2")

    def attention(name, weights, biases, timm_out):
        for part, weight, bias in zip(("query", "key", "value"), weights, biases):
            put(f"{name}/{part}/kernel", weight.T.reshape(size, heads, -1))
            put(f"{name}/{part}/bias", bias.reshape(heads, -1))
        put(f"{name}/out/kernel", arrays[f"{timm_out}.weight"].T.reshape(heads, -1, size))
        put(f"{name}/out/bias", arrays[f"{timm_out}.bias"])

    put("embedding/kernel", arrays["patch_embed.proj.weight"].transpose(2, 3, 1, 0))
    put("embedding/bias", arrays["patch_embed.proj.bias"])
    put("pos_embedding", arrays["pos_embed"])
    norm("Transformer/encoder_norm", "norm")
    for i in range(sum(name.endswith("norm1.weight") for name in arrays)):
        block, timm = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        norm(f"{block}/LayerNorm_0", f"{timm}.norm1")
        norm(f"{block}/LayerNorm_1", f"{timm}.norm2")
        mlp(f"{block}/MlpBlock_0", f"{timm}.mlp")
        parts = (np.split(arrays[f"{timm}.attn.qkv.{kind}"], 3) for kind in ("weight", "bias"))
        attention(f"{block}/MultiHeadDotProductAttention_0", *parts, f"{timm}.attn.proj")
    if "cls_token" in arrays:
        put("cls", arrays["cls_token"])
        dense("head", "head")
    else:
        put("MAPHead_0/probe", arrays["attn_pool.latent"])
        norm("MAPHead_0/LayerNorm_0", "attn_pool.norm")
        mlp("MAPHead_0/MlpBlock_0", "attn_pool.mlp")
        parts = (
            [arrays[f"attn_pool.q.{kind}"], *np.split(arrays[f"attn_pool.kv.{kind}"], 2)] for kind in ("weight", "bias")
        )
        attention("MAPHead_0/MultiHeadDotProductAttention_0", *parts, "attn_pool.proj")
    np.savez(folder / "model.npz", **result)


RENAMED = {"open_clip": to_open_clip, "big_vision": to_big_vision}


# ---------------------------------------------------------------------------------------------------------------------
# The parts of a row, each a process of its own


def images_of(height, width):
    """Returns noise, and an image of smooth waves, (2, height, width, 3) from -1 to 1."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y - 3 * x), np.sin(11 * x * y)], -1)
    return np.stack([random.uniform(-1, 1, waves.shape), waves]).astype(np.float32)


def part_project(case, size, folder):
    """The project's model, its file, and its outputs for images of two sizes."""
    model, side, patch = made(case, size, folder / "file")
    outputs = {"native": outputs_of(model, images_of(side, side))}
    # transformers' BEiT is wrong for a grid that is no square.
    other = (side + patch, side + patch) if case.family == "BEiT" else (side - patch, side + patch)
    about = {"image_size": side, "patch_size": patch, "parameters": sum(array.numel() for array in model.parameters())}
    if case.project == "transformers":
        outputs["other"] = outputs_of(model, images_of(*other), native=False)
    elif case.project == "timm":
        import timm

        # timm has two ways with a FlexiViT: bilinear positions where it reads a file, bicubic ones for a dynamic size.
        sized = {"dynamic_img_size": True} if case.family == "FlexiViT" else {"img_size": other}
        resized = timm.create_model(f"local-dir:{folder / 'file'}", pretrained=True, **sized).eval()
        outputs["other"] = outputs_of(resized, images_of(*other))
    np.savez(folder / "outputs.npz", other_size=other, size=(side, side), **outputs)
    yield "about", about


def part_keras_vit(case, size, folder, columns):
    """The outputs, the written folder and the exported files of keras_vit, on the backend of this process."""
    import keras

    import keras_vit

    expected = np.load(folder / "outputs.npz")
    path = folder / "file" / "model.npz"
    path = path if path.exists() else folder / "file"

    def difference(model, images, reference):
        output = keras.ops.convert_to_numpy(model(images))
        if output.shape != reference.shape:
            raise ValueError(f"the output has the shape {output.shape}, the project's {reference.shape}")
        return float(np.abs(output - reference).max())

    model = None
    backend = {name: key for key, name in BACKENDS.items()}.get(keras.backend.backend(), "read")
    if {backend, "written"} & {*columns}:
        model = keras_vit.load(path, classifier_activation=None)
    if backend in columns:
        yield from cell(backend, lambda: difference(model, images_of(*expected["size"]), expected["native"]))
    if "other size" in columns:
        if "other" in expected:
            shape = (*map(int, expected["other_size"]), 3)
            load = lambda: keras_vit.load(path, classifier_activation=None, input_shape=shape)  # noqa: E731
            yield from cell("other size", lambda: difference(load(), images_of(*shape[:2]), expected["other"]))
        else:
            yield "other size", None
    if "written" in columns:
        if case.project == "other":
            yield "written", None
        else:
            format = {"transformers": "hf"}.get(case.project, "timm")
            yield from failure("written", lambda: keras_vit.save_checkpoint(model, folder / "written", format=format))
    del model
    exports = [column for column in columns if column in EXPORTS]
    if exports:
        model = keras_vit.load(path)
        for column in exports:
            yield from cell(column, lambda: exported(model, column, folder))  # noqa: B023


def exported(model, target, folder):
    """Exports a model with the comparison that every file undergoes, and returns its figures."""
    from PIL import Image

    import keras_vit
    from keras_vit.export.proof_images import synthetic_images
    from keras_vit.models.description import describe_model

    side = model.input_shape[1]
    encoded = []
    for pixels in synthetic_images((side * 5 // 4, side * 4 // 3), images=PROOF_IMAGES):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        encoded.append(buffer.getvalue())
    described = describe_model(model)
    options = {} if described.classes else {"outputs": "numbers"}
    if target == "web":
        options["runtime"] = os.environ.get("LITERT_JS", "node_modules")
    (agreement,) = keras_vit.export.export_model(model, folder / "exported", [target], images=encoded, **options)
    if described.classes:
        return {"value": agreement.logits["max_difference"], "agreement": agreement.top1_agreement_or_tie}
    return {"value": agreement.numbers["relative_difference"], "relative": True}


def part_back(case, size, folder):
    """The project's outputs from the folder that keras_vit wrote."""
    expected = np.load(folder / "outputs.npz")

    def difference():
        output = read_back(case, folder / "written", images_of(*expected["size"]))
        return float(np.abs(output - expected["native"]).max())

    yield from cell("written", difference)


def cell(column, function):
    """Yields (column, what the function returns), or the reason why it failed."""
    try:
        yield column, function()
    except Exception as error:
        traceback.print_exc()
        yield column, {"failed": str(error)}


def failure(column, function):
    """Yields nothing, or the reason why the function failed."""
    for name, value in cell(column, function):
        if value is not None:
            yield name, value


PARTS = {"project": part_project, "keras_vit": part_keras_vit, "back": part_back}


def run_part(part, case, size, folder, *columns):
    """Prints the cells of a part, a line each, in the process of its own."""
    arguments = [columns] if part == "keras_vit" else []
    for column, value in PARTS[part](next(one for one in CASES if one.name == case), size, folder, *arguments):
        value = {"value": value} if isinstance(value, float) else value
        print("CELL", json.dumps([column, value]), flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# The table


def started(part, case, size, folder, columns=(), backend="tensorflow"):
    """Runs a part in a process of its own and yields (column, cell) as they come; cells that it did not reach fail."""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "KERAS_VIT_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    command = [sys.executable, __file__, "--part", part, case.name, size, str(folder), *columns]
    left = dict.fromkeys(columns or [{"back": "written", "project": "about"}[part]])
    with (folder / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        for line in process.stdout:
            if line.startswith("CELL "):
                column, value = json.loads(line[5:])
                left.pop(column, None)
                yield column, value
        if process.wait():
            errors.seek(0)
            reason = f"status {process.returncode}: " + (errors.read().strip().splitlines() or [""])[-1][:300]
            for column in left:
                yield column, {"failed": reason}


def row(case, size, wanted, save):
    """Runs the parts of a row and saves each cell as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for column, value in started("project", case, size, folder):
            save(column, value)
            if "failed" in value:
                for name in wanted:
                    save(name, value)
                return
        ours = [column for column in wanted if column not in BACKENDS]
        done = set()
        for column, value in started("keras_vit", case, size, folder, ours) if ours else ():
            done.add(column)
            save(column, value)
        if "written" in ours and "written" not in done:  # the folder is written, and no reason why not came
            for column, value in started("back", case, size, folder):
                save(column, value)
        for column in wanted:
            if column in BACKENDS:
                for _, value in started("keras_vit", case, size, folder, [column], BACKENDS[column]):
                    save(column, value)


def is_missed(size, column, value):
    """Returns whether a cell failed, or is larger than what a correct implementation leaves."""
    return bool(value) and ("failed" in value or column not in EXPORTS and value["value"] > MOST[size])


def shown(size, column, value):
    """Returns a cell of the table."""
    if value is None or "failed" in value:
        return "–" if value is None else "failed"
    text = f"{value['value']:.1e}" + (" r" if value.get("relative") else "")
    text += f", {value['agreement']:.0%}" if value.get("agreement", 1) < 1 else ""
    return f"**{text}**" if is_missed(size, column, value) else text


def table(results):
    """Returns the Markdown of the results, a table for each size, and the reasons of cells that failed."""
    lines = []
    for size in SIZES:
        cases = {case.name: results[f"{case.name}, {size}"] for case in CASES if f"{case.name}, {size}" in results}
        if not cases:
            continue
        lines += ["", {"tiny": "Tiny models:", "real": "Models of a published size:"}[size], ""]
        lines += [
            "| family | project | model | " + " | ".join(COLUMNS) + " |",
            "|---" * 3 + "|--:" * len(COLUMNS) + "|",
        ]
        for case in CASES:
            cells = cases.get(case.name)
            if cells is None:
                continue
            about = cells.get("about", {})
            model = f"{about.get('parameters', 0) / 1e6:.1f} M"
            if size == "real":
                model = " ".join(filter(None, (f"{case.member},", model, f"({case.cut})" if case.cut else "")))
            texts = ["not run" if column in case.columns(size) else "" for column in COLUMNS]
            for i, column in enumerate(COLUMNS):
                if column in cells and column in case.columns(size):
                    texts[i] = shown(size, column, cells[column])
            lines.append(f"| {case.family} | {case.project} | {model} | " + " | ".join(texts) + " |")
    reasons = [
        f"- {name}, {column}: {' '.join(value['failed'].split())[:400]}"
        for name, cells in results.items()
        for column, value in cells.items()
        if value and "failed" in value
    ]
    return "\n".join([*lines[1:], *(["", "Failed:", "", *reasons] if reasons else [])]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", help="only rows whose family begins so; can be repeated")
    parser.add_argument("--project", action="append", choices=("transformers", "timm", "other"))
    parser.add_argument("--size", action="append", choices=SIZES, help="tiny or real (default: both)")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=COLUMNS, metavar="COLUMN")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help=f"default: docs/results/{OUTPUT.name}")
    parser.add_argument("--again", action="store_true", help="measure also the cells that are in --output")
    parser.add_argument("--litert-js", default="node_modules", help="where npm installed LiteRT.js, for web")
    arguments = parser.parse_args()
    os.environ["LITERT_JS"] = str(pathlib.Path(arguments.litert_js).absolute())
    import keras_vit_command  # noqa: F401  first: `import keras_vit` then does not import Keras
    from keras_vit._atomic import write_text

    results = json.loads(arguments.output.read_text("utf-8")) if arguments.output.exists() else {}
    results = collections.defaultdict(dict, results)
    rows = [
        (case, size)
        for size in arguments.size or SIZES
        for case in CASES
        if (not arguments.family or case.family.startswith(tuple(arguments.family)))
        and (not arguments.project or case.project in arguments.project)
    ]
    missed = False
    for i, (case, size) in enumerate(rows, 1):
        key, begin = f"{case.name}, {size}", time.monotonic()
        has = {} if arguments.again else results[key]
        wanted = [
            column
            for column in case.columns(size)
            if column in arguments.columns and (column not in has or "failed" in (has[column] or {}))
        ]

        def save(column, value, key=key, size=size):
            results[key][column] = value
            write_text(arguments.output, json.dumps(results, indent=1) + "\n")
            if column != "about":
                print(f"  {column}: {(value or {}).get('failed') or shown(size, column, value)}", flush=True)

        print(f"{i} of {len(rows)}: {key}", flush=True)
        if wanted:
            row(case, size, wanted, save)
            print(f"  {time.monotonic() - begin:.0f} s", flush=True)
        missed |= any(is_missed(size, column, results[key].get(column)) for column in arguments.columns)
    write_text(arguments.output.with_suffix(".md"), table(results))
    print(table(results))
    sys.exit(missed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        run_part(*sys.argv[2:4], sys.argv[4], pathlib.Path(sys.argv[5]), *sys.argv[6:])
    else:
        main()
