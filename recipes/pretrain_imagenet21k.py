"""Pre-trains ViT-B/16 on ImageNet-21k from scratch, as the paper does: 90 epochs at 224 pixels.

    keras-vit fit recipes/pretrain_imagenet21k.py data=/data/imagenet21k precision=mixed_bfloat16
    keras-vit fit recipes/pretrain_imagenet21k.py --quick    # a one-minute test on synthetic images

TFDS has no ImageNet-21k: `data` is a folder of its 21,843 class folders. ViT-B/32 has the same settings; ViT-L/16 and
L/32 have variant=ViT-L/16 representation_size=1024, and 30 or 90 epochs.

Source: arXiv:2010.11929, table 3 (rows ImageNet-21k) and appendix B.1; vit_jax input_pipeline.py; issues are those of
google-research/vision_transformer, 2 has all numbers.
Published: 47.88 % of the validation images (issue 62); 83.97 % of ImageNet-1k's after fine-tuning (table 5).
Not run at full size here: no accelerator and no such images.
"""

from keras_vit.commands.cli import run
from keras_vit.training import Recipe

RECIPE = Recipe(
    data="imagenet21k",
    validation=0.002,  # 25,600 images each, as in big_vision configs/vit_i21k.py
    test=0.002,
    variant="ViT-B/16",
    image_size=224,
    representation_size=768,  # the hidden size of the variant: issues 2 and 124
    dropout=0.1,
    head_bias=-10.0,  # -log(21,843): issue 2
    loss="sigmoid",  # issue 34
    label_smoothing=0.0,
    crop="inception",
    flip=True,
    evaluation="official",
    epochs=90,
    batch_size=4096,
    optimizer="adamw",  # Adam, beta 0.9 and 0.999, with decoupled weight decay
    learning_rate=1e-3,
    schedule="linear",  # to 1e-5
    warmup_steps=10_000,
    weight_decay=0.03,
    clip_norm=0.0,
)

if __name__ == "__main__":
    run(__file__)
