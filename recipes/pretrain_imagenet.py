"""Pre-trains ViT-B/16 on ImageNet-1k from scratch, as the paper does: 300 epochs at 224 pixels.

    keras-vit fit recipes/pretrain_imagenet.py data_dir=/data/tfds precision=mixed_bfloat16
    keras-vit fit recipes/pretrain_imagenet.py --quick    # a one-minute test on synthetic images

All plain ViTs have the same settings but for the head: variant=ViT-L/16 representation_size=1024. Augmentation
(recipes/augreg_medium2.py) improves the accuracy much on data of this size.

Source: arXiv:2010.11929, table 3 (row ImageNet) and appendix B.1; vit_jax input_pipeline.py; issues are those of
google-research/vision_transformer.
Published: 74.79 % at 224 pixels (issue 62); 77.91 % after fine-tuning at 384 (table 5).
Not run at full size here: no accelerator, and TFDS needs a manual download of imagenet2012.
"""

from keras_vit.commands.cli import run
from keras_vit.training import Recipe

RECIPE = Recipe(
    data="imagenet2012",
    train_split="train[:99%]",  # vit_jax configs/common.py
    validation_split="train[99%:]",
    test_split="validation",
    variant="ViT-B/16",
    image_size=224,
    representation_size=768,  # the hidden size of the variant: section 3.1 and issue 124
    dropout=0.1,
    head_bias=-6.9,  # -log(1000), so that the initial probability of each class is low: big_vision configs/vit_i1k.py
    loss="sigmoid",  # issues 34 and 89; the paper names none
    label_smoothing=0.0,
    crop="inception",
    flip=True,
    evaluation="official",
    epochs=300,
    batch_size=4096,
    optimizer="adamw",  # Adam, beta 0.9 and 0.999, with decoupled weight decay
    learning_rate=3e-3,
    schedule="cosine",
    warmup_steps=10_000,
    weight_decay=0.3,
    clip_norm=1.0,  # for ImageNet alone
)

if __name__ == "__main__":
    run(__file__)
