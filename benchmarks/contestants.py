"""The contestants of speed.py: a Vision Transformer from each library, and one step of it.

Run as a worker: python contestants.py NAME TASK. All have the same sizes, 1000 classes, the exact GELU, random weights,
no dropout and the same batch of random images; a training step is forward, cross-entropy, backward and AdamW.

In bfloat16, weights and values of a forward pass have this dtype; a training step keeps its weights in float32 and
computes in bfloat16: Keras' policies "bfloat16" and "mixed_bfloat16", PyTorch's `model.to` and autocast.
"""

import functools
import os
import pathlib
import sys
import tempfile

import interleave
import numpy as np

IMAGE_SIZE = 224
CLASSES = 1000
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
SIZES = {  # hidden_size, num_layers, num_heads, mlp_dim; weights
    "ViT-B/16": ((768, 12, 12, 3072), 86_567_656),
    "ViT-S/16": ((384, 12, 6, 1536), 22_050_664),
}
TASKS = {  # variant, images, dtype, height and width
    "forward-float32": ("ViT-B/16", 16, "float32", IMAGE_SIZE),
    "forward-bfloat16": ("ViT-B/16", 16, "bfloat16", IMAGE_SIZE),
    "train-float32": ("ViT-S/16", 16, "float32", IMAGE_SIZE),
    "train-bfloat16": ("ViT-S/16", 16, "bfloat16", IMAGE_SIZE),
    "single-float32": ("ViT-B/16", 1, "float32", IMAGE_SIZE),
}
OURS = "keras_vit"


def is_training(task):
    return task.startswith("train")


def ours(variant, gelu="erf"):
    import keras_vit

    return keras_vit.build(variant, classifier_activation=None, classes=CLASSES, dropout=0.0, gelu=gelu)


def keras_hub(variant):
    import keras_hub

    hidden_size, num_layers, num_heads, mlp_dim = SIZES[variant][0]
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
        patch_size=16,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_size,
        mlp_dim=mlp_dim,
    )
    return keras_hub.models.ViTImageClassifier(backbone, num_classes=CLASSES)


def timm(variant):
    declare_torchvision()
    import timm

    return timm.create_model(f"vit_{variant[4:5].replace('B', 'base').replace('S', 'small')}_patch16_224")


def transformers(variant):
    declare_torchvision()
    from transformers import ViTConfig, ViTForImageClassification

    hidden_size, num_layers, num_heads, mlp_dim = SIZES[variant][0]
    config = ViTConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=mlp_dim,
        image_size=IMAGE_SIZE,
        num_labels=CLASSES,
        attn_implementation="sdpa",
    )
    return ViTForImageClassification(config)


@functools.cache
def declare_torchvision():
    """Declares two operators that are missing in a torchvision for CUDA with a torch for CPUs; no ViT uses them."""
    import torch

    if not torch.cuda.is_available():
        library = torch.library.Library("torchvision", "FRAGMENT")
        boxes = "Tensor dets, Tensor scores, float iou_threshold"
        for name in ("nms", "qnms"):
            library.define(f"{name}({boxes}) -> Tensor")
        declare_torchvision.library = library  # the operators exist as long as it does


def _batch(task):
    rng, (_, batch, _, side) = np.random.default_rng(0), TASKS[task]
    images = rng.uniform(-1, 1, (batch, side, side, 3)).astype("float32")
    return images, rng.integers(0, CLASSES, batch)


def keras_step(make, task):
    """Returns the step, and the number of weights."""
    import keras

    variant, _, dtype, _ = TASKS[task]
    keras.config.set_dtype_policy({"bfloat16": "mixed_bfloat16"}.get(dtype, dtype) if is_training(task) else dtype)
    model = make(variant)
    images, labels = (keras.ops.convert_to_tensor(array) for array in _batch(task))
    if not is_training(task):
        import tensorflow as tf

        forward = tf.function(lambda images: model(images, training=False))
        return lambda: forward(images).numpy(), model.count_params()
    model.compile(
        keras.optimizers.AdamW(LEARNING_RATE, WEIGHT_DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # as Keras' "auto" on a CPU
    )
    return lambda: model.train_on_batch(images, labels), model.count_params()


def trainer_step(make, task):
    """Returns the step of a run on Keras' PyTorch backend, and the number of weights."""
    import keras
    import torch

    import keras_vit

    torch.set_num_threads(interleave.THREADS)
    variant, batch, dtype, _ = TASKS[task]
    keras.config.set_dtype_policy({"bfloat16": "mixed_bfloat16"}.get(dtype, dtype))
    trainer = keras_vit.training.make_trainer(make(variant))
    trainer.compile(keras_vit.training.AdamW(LEARNING_RATE, kernel_decay=WEIGHT_DECAY), jit_compile=False)
    images, labels = map(torch.tensor, _batch(task))
    targets, weights = torch.nn.functional.one_hot(labels, CLASSES).float(), torch.ones(batch)
    return lambda: trainer.train_on_batch(images, targets, weights), trainer.count_params()


def torch_step(make, task):
    """Returns the step, and the number of weights."""
    import torch

    torch.set_num_threads(interleave.THREADS)
    variant, _, dtype, _ = TASKS[task]
    model = make(variant)
    images, labels = _batch(task)
    x, y = torch.tensor(images.transpose(0, 3, 1, 2).copy()), torch.tensor(labels)
    weights = sum(parameter.numel() for parameter in model.parameters())
    if not is_training(task):
        model.eval().to(getattr(torch, dtype))
        x = x.to(getattr(torch, dtype))

        def forward():
            with torch.inference_mode():
                return _logits(model(x)).float().numpy()

        return forward, weights
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def train():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = _logits(model(x))
        loss = torch.nn.functional.cross_entropy(logits.float(), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train, weights


def _logits(output):
    return getattr(output, "logits", output)


def _with_file(make, task, kind, read, **options):
    """Returns what a function of the path of a file returns that keras_vit exports, and the number of weights."""
    import keras_vit

    model = make(TASKS[task][0])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"model.{kind}"
        getattr(keras_vit.export, kind)(model, path, outputs="logits", input_type="scaled", **options)
        return read(path), model.count_params()


def onnxruntime_step(make, task):
    """Returns the step of an ONNX file of ours, and the number of weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = interleave.THREADS
    session, weights = _with_file(make, task, "onnx", lambda path: onnxruntime.InferenceSession(path, options))
    name, images = session.get_inputs()[0].name, _batch(task)[0]
    return lambda: session.run(None, {name: images}), weights


def openvino_step(make, task):
    """Returns the step of an OpenVINO model of ours, and the number of weights."""
    import openvino

    images = _batch(task)[0]
    model, weights = _with_file(make, task, "openvino", lambda path: openvino.Core().read_model(path / "1/model.xml"))
    model.reshape(images.shape)
    return _openvino(model, task, images), weights


def openvino_torch_step(make, task):
    """Returns the step of an OpenVINO model of a PyTorch model, and the number of weights."""
    import openvino
    import torch

    model = make(TASKS[task][0]).eval()
    images = np.ascontiguousarray(_batch(task)[0].transpose(0, 3, 1, 2))
    converted = openvino.convert_model(model, example_input=torch.tensor(images), input=images.shape)
    return _openvino(converted, task, images), sum(parameter.numel() for parameter in model.parameters())


def _openvino(model, task, images):
    import openvino

    precision = {"float32": "f32", "bfloat16": "bf16"}[TASKS[task][2]]
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": interleave.THREADS}
    compiled = openvino.Core().compile_model(model, "CPU", options)
    return lambda: compiled(images)


def tflite_step(make, task):
    """Returns the step of a .tflite file of ours for one image, and the number of weights."""
    from ai_edge_litert.interpreter import Interpreter

    def read(path):
        return Interpreter(model_content=path.read_bytes(), num_threads=interleave.THREADS)

    file, weights = _with_file(make, task, "tflite", read, mode="float32")
    file.allocate_tensors()
    index, images = file.get_input_details()[0]["index"], _batch(task)[0]

    def step():
        file.set_tensor(index, images)
        file.invoke()

    return step, weights


FORWARD, TRAIN, SINGLE = ("forward-float32", "forward-bfloat16"), ("train-float32", "train-bfloat16"), "single-float32"
CONTESTANTS = {  # how the model is made, and its step; tasks; Keras' backend
    OURS: (ours, keras_step, (*FORWARD, *TRAIN, SINGLE), "tensorflow"),
    "keras_vit, tanh": (lambda variant: ours(variant, "tanh"), keras_step, FORWARD, "tensorflow"),
    "keras_vit on PyTorch": (ours, trainer_step, TRAIN, "torch"),
    "keras_vit, OpenVINO": (ours, openvino_step, (*FORWARD, SINGLE), "tensorflow"),
    "keras_vit, .tflite": (ours, tflite_step, (SINGLE,), "tensorflow"),
    "keras-hub": (keras_hub, keras_step, (*FORWARD, *TRAIN, SINGLE), "tensorflow"),
    "timm": (timm, torch_step, (*FORWARD, *TRAIN, SINGLE), None),
    "transformers": (transformers, torch_step, (*FORWARD, *TRAIN, SINGLE), None),
    "onnxruntime": (ours, onnxruntime_step, (FORWARD[0], SINGLE), "tensorflow"),
    "timm, OpenVINO": (timm, openvino_torch_step, (*FORWARD, SINGLE), None),
}


def of_task(task):
    """Returns the names of the contestants of a task."""
    return [name for name, (_, _, tasks, _) in CONTESTANTS.items() if task in tasks]


if __name__ == "__main__":
    name, task = sys.argv[1:]
    make, step, _, backend = CONTESTANTS[name]
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    run, weights = step(make, task)
    interleave.serve(run, weights=weights)
