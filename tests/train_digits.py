"""Train the small network in ``tests/data``: handwritten digits, tinted, by a narrow keras-resnet ResNet-18.

    python -m tests.train_digits          a minute or two; needs scikit-learn and Pillow beside TensorFlow

It writes ``digits.keras``, which Keras saves as it saves any trained model, its optimizer's state included, and
``digits.npz``: pictures that the network was not trained on, what they show, and TensorFlow's predictions.
Random weights cannot show what training does to a network: its probabilities, for one thing, are close to 0 and 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npresnet.images.prepare import prepare
from npresnet.verify import oracle

DATA = Path(__file__).parent / "data"
FAMILY, DEPTH, PREPROCESSING = "keras-resnet", 18, "caffe"
STEM_WIDTH, STAGE_WIDTHS = 8, ((8, 8), (12, 12), (16, 16), (24, 24))
SIDE = 32  # pixels: the least that leaves one for the last of five halvings
RECORDED = 60


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All 1797 digits as uint8[n, 32, 32, 3], each tinted with a colour of its own, and what they show; shuffled."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = (found.images * (255 / 16)).astype(np.uint8)
    enlarged = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in grey]
    random = np.random.default_rng(0)
    tints = random.uniform(0.4, 1, (len(grey), 1, 1, 3))  # so that the order of the channels matters
    order = random.permutation(len(grey))
    return (np.stack(enlarged)[..., None] * tints).astype(np.uint8)[order], found.target[order]


def sized(model: Any) -> Any:
    """The same layers, new, for images of just the size of the digits, as whoever trains on one size says it."""
    import keras

    image = keras.Input((SIDE, SIDE, 3), name=model.inputs[0].name)
    return keras.models.clone_model(model, input_tensors=image)


def main() -> None:
    """Train, save, record."""
    import keras

    keras.utils.set_random_seed(0)
    pictures, labels = digits()
    images = prepare(pictures, PREPROCESSING, "none")
    held_out = 360
    model = sized(oracle.build(FAMILY, DEPTH, stem_width=STEM_WIDTH, stage_widths=STAGE_WIDTHS, classes=10))
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[held_out:], labels[held_out:], batch_size=32, epochs=12, verbose=2)
    _, accuracy = model.evaluate(images[:held_out], labels[:held_out], verbose=0)
    model.save(DATA / "digits.keras")
    np.savez_compressed(
        DATA / "digits.npz",
        pictures=pictures[:RECORDED],
        labels=labels[:RECORDED],
        predictions=model.predict(images[:RECORDED], verbose=0),
    )
    print(f"{accuracy:.1%} of {held_out} held-out digits are right; {model.count_params():,} parameters")


if __name__ == "__main__":
    main()
