"""The contestants of speed.py: a Vision Transformer from each library, and one step of it.

Run as a worker: python contestants.py NAME TASK. All have the same sizes, 1000 classes, random weights, no dropout,
float32 and the same batch of random images; a training step is forward, cross-entropy, backward and AdamW.
"""

import sys

import interleave
import numpy as np

IMAGE_SIZE = 224
CLASSES = 1000
BATCH = 16
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
SIZES = {  # hidden_size, num_layers, num_heads, mlp_dim; weights
    "ViT-B/16": ((768, 12, 12, 3072), 86_567_656),
    "ViT-S/16": ((384, 12, 6, 1536), 22_050_664),
}
TASKS = {"forward": "ViT-B/16", "train": "ViT-S/16"}


def ours(variant, gelu):
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
    _declare_torchvision()
    import timm

    return timm.create_model(f"vit_{variant[4:5].replace('B', 'base').replace('S', 'small')}_patch16_224")


def transformers(variant):
    _declare_torchvision()
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


def _declare_torchvision():
    """Declares two operators that are missing in a torchvision for CUDA with a torch for CPUs; no ViT uses them."""
    import torch

    if not torch.cuda.is_available():
        library = torch.library.Library("torchvision", "FRAGMENT")
        boxes = "Tensor dets, Tensor scores, float iou_threshold"
        for name in ("nms", "qnms"):
            library.define(f"{name}({boxes}) -> Tensor")
        _declare_torchvision.library = library  # the operators exist as long as it does


def _batch():
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (BATCH, IMAGE_SIZE, IMAGE_SIZE, 3)).astype("float32")
    return images, rng.integers(0, CLASSES, BATCH)


def keras_step(model, task):
    """Returns the step, and the number of weights."""
    import keras
    import tensorflow as tf

    images, labels = _batch()
    x, y = tf.constant(images), tf.constant(labels)
    if task == "forward":
        forward = tf.function(lambda images: model(images, training=False))
        return lambda: forward(x).numpy(), model.count_params()
    model.compile(
        keras.optimizers.AdamW(LEARNING_RATE, WEIGHT_DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # as Keras' "auto" on a CPU
    )
    return lambda: model.train_on_batch(x, y), model.count_params()


def torch_step(model, task):
    """Returns the step, and the number of weights."""
    import torch

    torch.set_num_threads(interleave.THREADS)
    images, labels = _batch()
    x, y = torch.tensor(images.transpose(0, 3, 1, 2).copy()), torch.tensor(labels)
    weights = sum(parameter.numel() for parameter in model.parameters())

    def forward():
        with torch.inference_mode():
            return _logits(model(x)).numpy()

    if task == "forward":
        model.eval()
        return forward, weights
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(_logits(model(x)), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train, weights


def _logits(output):
    return getattr(output, "logits", output)


CONTESTANTS = {
    "keras_vit, erf": (lambda variant: ours(variant, "erf"), keras_step),
    "keras_vit, tanh": (lambda variant: ours(variant, "tanh"), keras_step),
    "keras-hub": (keras_hub, keras_step),
    "timm": (timm, torch_step),
    "transformers": (transformers, torch_step),
}


if __name__ == "__main__":
    name, task = sys.argv[1:]
    make, step = CONTESTANTS[name]
    run, weights = step(make(TASKS[task]), task)
    interleave.serve(run, weights=weights)
