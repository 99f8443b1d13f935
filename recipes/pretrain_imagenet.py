"""Pre-trains ViT-B/16 on ImageNet-1k from nothing, as the paper does: 300 epochs at 224 pixels.

    keras-vit fit recipes/pretrain_imagenet.py data_dir=/data/tfds precision=mixed_bfloat16
    keras-vit fit recipes/pretrain_imagenet.py --quick    # all of it in a minute, on synthetic images

The same for all plain ViTs, but for the head: variant=ViT-L/16 representation_size=1024. With augmentation
(recipes/augreg_medium2.py) data of this size gives much more.

Source: arXiv:2010.11929, table 3 (row ImageNet) and appendix B.1; vit_jax input_pipeline.py; issues are those of
google-research/vision_transformer.
Published: 74.79 % at 224 pixels (issue 62); 77.91 % once fine-tuned at 384 (table 5).
Not run at full size here: no accelerator, and TFDS asks for the images of imagenet2012 by hand.
"""

from keras_vit.commands.cli import run
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(
    data="imagenet2012",
    train_split="train[:99%]",  # vit_jax configs/common.py
    validation_split="train[99%:]",
    test_split="validation",
    variant="ViT-B/16",
    image_size=224,
    representation_size=768,  # the hidden size of the variant: section 3.1 and issue 124
    dropout=0.1,
    head_bias=-6.9,  # -log(1000), so that no class is likely at first: big_vision configs/vit_i1k.py
    loss="sigmoid",  # issues 34 and 89; the paper names none
    label_smoothing=0.0,
    crop="inception",
    flip=True,
    evaluation="official",
    epochs=300,
    batch_size=4096,
    optimizer="adamw",  # Adam, beta 0.9 and 0.999, with decay that is not part of the gradient
    learning_rate=3e-3,
    schedule="cosine",
    warmup_steps=10_000,
    weight_decay=0.3,
    clip_norm=1.0,  # for ImageNet alone
)

if __name__ == "__main__":
    run(__file__)
