"""TensorFlow as the oracle: the same network built in Keras, filled from the same file, read out layer by layer.

Nothing here knows :mod:`npresnet.network.families`. The builders follow the programs that wrote the weight files, so a
mistake in npresnet's own table of architectures shows up as a difference instead of being made twice.

Keras and TensorFlow are imported by the functions, never by this module: whoever wants fewer log lines or a thread
count sets them first (``TF_CPP_MIN_LOG_LEVEL``, :func:`set_threads`).

Names of the layers, in the order in which a block is computed. ``{b}`` is the stage and the block's label, such as
``2a``; what stands in brackets exists only in the first block of a stage; ``*`` marks layers whose name upstream
leaves to Keras's counters (``activation_7``, ``zero_padding2d``), which would change from one model to the next.

=====  ================================================================================================================
stem   matterport: ``conv1_pad*`` ``conv1`` ``bn_conv1`` ``conv1_relu*`` ``pool1*``
       keras-resnet: [0.1.0 only: ``padding_conv1``] ``conv1`` ``bn_conv1`` ``conv1_relu`` ``pool1``
       keras.applications: ``conv1_pad`` ``conv1_conv`` ``conv1_bn`` ``conv1_relu`` ``pool1_pad`` ``pool1_pool``
block  matterport: ``res{b}_branch2a`` ``bn{b}_branch2a`` ``res{b}_branch2a_relu*`` ``res{b}_branch2b``
       ``bn{b}_branch2b`` ``res{b}_branch2b_relu*`` ``res{b}_branch2c`` ``bn{b}_branch2c`` [``res{b}_branch1``
       ``bn{b}_branch1``] ``res{b}_add*`` ``res{b}_out``
       keras-resnet, 50 and deeper: the same but for ``padding{b}_branch2b`` before ``res{b}_branch2b``, and an end of
       ``res{b}`` (the sum) ``res{b}_relu``
       keras-resnet, 18 and 34: ``padding{b}_branch2a`` ``res{b}_branch2a`` ``bn{b}_branch2a`` ``res{b}_branch2a_relu``
       ``padding{b}_branch2b`` ``res{b}_branch2b`` ``bn{b}_branch2b`` [``res{b}_branch1`` ``bn{b}_branch1``] ``res{b}``
       ``res{b}_relu``
       keras.applications, ``{b}`` as in ``conv2_block1``: [``{b}_0_conv`` ``{b}_0_bn``] ``{b}_1_conv`` ``{b}_1_bn``
       ``{b}_1_relu`` ``{b}_2_conv`` ``{b}_2_bn`` ``{b}_2_relu`` ``{b}_3_conv`` ``{b}_3_bn`` ``{b}_add`` ``{b}_out``
top    keras-resnet: ``pool5`` ``fc1000``; keras.applications: ``avg_pool`` ``predictions``; matterport has none
=====  ================================================================================================================
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, MissingExtraError, UsageError, WeightsError
from ..files.opening import open_weights
from .oracle_families import BUILDERS

if TYPE_CHECKING:
    import keras

Widths = Sequence[tuple[int, int]]
Labels = Sequence[Sequence[str]]

# Blocks in stages 2, 3, 4 and 5.
_BLOCKS = {
    18: (2, 2, 2, 2), 26: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}  # fmt: skip
_BASIC = (18, 34)
_DEPTHS = {
    "matterport": (50, 101, 152),
    "keras.applications": (50, 101, 152),
    "keras.applications V2": (50, 101, 152),
    "keras-resnet": (18, 34, 50, 101, 152, 200),
    **{family: depths for family, (_, _, depths) in BUILDERS.items()},
}

# A quiet NaN with a payload that no arithmetic makes: what still holds these bits was never assigned. A plain NaN
# would not do, for a weight file may hold NaNs of its own.
_UNSET = np.array([0x7FC0_0D17], np.uint32)

# A convolution or batch-norm of stages 2 to 5, in any of the families; the match is its stage.
_STAGE = re.compile(r"(?:res|bn|conv)[2-5]")


def _tensorflow() -> tuple[Any, Any]:
    """Import TensorFlow and Keras, and check that Keras runs on TensorFlow with NHWC float32 as its defaults.

    Raises MissingExtraError where either is missing, UsageError where Keras is configured otherwise.
    """
    try:
        import keras
        import tensorflow
    except ImportError as error:
        raise MissingExtraError(
            'checking against TensorFlow needs it installed: pip install "npresnet[test]"'
        ) from error
    settings = {
        "backend": (keras.config.backend(), "tensorflow"),
        "image_data_format": (keras.config.image_data_format(), "channels_last"),
        "floatx": (keras.config.floatx(), "float32"),
        "dtype policy": (keras.config.dtype_policy().name, "float32"),
    }
    for setting, (found, needed) in settings.items():
        if found != needed:
            raise UsageError(
                f"keras: its {setting} is set to {found!r}; the check needs {needed!r}; "
                "change KERAS_BACKEND, ~/.keras/keras.json or the calling program"
            )
    return tensorflow, keras


def set_threads(threads: int) -> None:
    """Have TensorFlow use ``threads`` threads within an operation; call it before the first :func:`build`.

    threads  at least 1

    Raises UsageError where TensorFlow has already started with another number, MissingExtraError without TensorFlow.
    """
    if threads < 1:
        raise UsageError(f"threads: {threads} was given; at least 1 is needed; without a call TensorFlow chooses")
    tensorflow, _ = _tensorflow()
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        # The layers are run one after the other: a second operation at the same time never exists.
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UsageError(
            f"threads: {threads} was given after TensorFlow had started; it takes the number only before its first "
            "operation; set it first, or use a fresh process"
        ) from error


# Building ------------------------------------------------------------------------------------------------------------


def build(
    family: str,
    depth: int,
    *,
    stage5: bool = True,
    stem_width: int = 64,
    stage_widths: Widths | None = None,
    classes: int | None = None,
    stem: Literal["pad3", "same"] = "pad3",
    block_labels: Labels | None = None,
    **variant: Any,
) -> keras.Model:
    """Build one network in Keras, with the layers' names as in the weight files and no weights worth having.

    The model maps float32[n, h, w, 3], any n, h and w, to the last stage's float32[n, h', w', c], or with ``classes``
    to probabilities float32[n, classes].

    family        "matterport" (``resnet_graph`` of Mask R-CNN), "keras.applications" and "keras.applications V2",
                  "keras-resnet" (broadinstitute, as used by fizyr's detectors), or one of ``oracle_families.BUILDERS``
    depth         one that the family has; matterport itself stops at 101
    stage5        False ends the network with stage 4
    stem_width    channels of the first convolution
    stage_widths  (inner, outer) channels of each stage's blocks, from stage 2 on; None for the published widths
    classes       adds the family's classifier with so many classes; not for matterport, which has none
    stem          padding of the first convolution: "pad3" explicit, or "same" as in release 0.2.0 of keras-resnet
    variant       what else ``oracle_families.py`` lets a family's builder vary: the pool's border, say
    block_labels  for each stage the labels of its blocks, where a file of the matterport or keras-resnet kind spells
                  them another way than upstream does

    Past the 26th block of a stage matterport's rule leaves the alphabet: stage 4 of 152 ends with ``{ | } ~`` and
    six control characters. Keras 3 builds, runs eagerly, saves and loads such layers. Inside a graph (``model.predict``,
    ``tf.function``) TensorFlow refuses their names; Keras 2 built nothing but graphs, so its files spell them otherwise.

    Raises UsageError for an unknown or impossible combination, MissingExtraError without TensorFlow.
    Source: matterport/Mask_RCNN:mrcnn/model.py; keras.applications itself; keras-resnet 0.1.0 and 0.2.0.
    """
    if family not in _DEPTHS:
        raise UsageError(f"family: {family!r} was given; it must be one of {', '.join(map(repr, _DEPTHS))}")
    if depth not in _DEPTHS[family]:
        raise UsageError(f"depth: {depth} was given; {family} has {', '.join(map(str, _DEPTHS[family]))}")
    if not stage5 and family not in ("matterport", "keras.applications", "keras-resnet"):
        raise UsageError(f"stage5: False was given; networks of {family} always have stage 5")
    if classes is not None and (family == "matterport" or not stage5 or classes < 1):
        raise UsageError(
            f"classes: {classes} was given for {family} with stage5={stage5}; a classifier needs at least one class, "
            "stage 5, and a family that has one: keras.applications or keras-resnet"
        )
    if stem not in ("pad3", "same") or (stem == "same" and family != "keras-resnet"):
        raise UsageError(f"stem: {stem!r} was given for {family}; it is 'pad3', or for keras-resnet 'pad3' or 'same'")

    blocks = _BLOCKS[depth] if stage5 else _BLOCKS[depth][:3]
    if stage_widths is None:
        expansion = 1 if depth in _BASIC else 4
        stage_widths = [(64 << i, (64 << i) * expansion) for i in range(len(blocks))]
    widths = [stem_width, *(width for pair in stage_widths for width in pair)]
    if len(stage_widths) != len(blocks) or min(widths) < 1:
        raise UsageError(
            f"stem_width, stage_widths: {stem_width} and {list(stage_widths)} were given; "
            f"every width is at least 1, and each of the {len(blocks)} stages has one (inner, outer) pair"
        )

    if family not in ("matterport", "keras-resnet"):
        if block_labels is not None:
            raise UsageError(f"block_labels: {family} numbers its blocks and leaves no choice; leave it out")
        if family in BUILDERS:
            builder, options, _ = BUILDERS[family]
            return builder(depth, stem_width, stage_widths, classes, **options, **variant)
        version = family.removeprefix("keras.applications").strip()
        return _keras_applications(f"ResNet{depth}{version}", stage5, stem_width, stage_widths, classes)

    if block_labels is None:
        block_labels = [
            [_label(family, depth, stage, block) for block in range(count)] for stage, count in enumerate(blocks, 2)
        ]
    if [len(set(labels)) for labels in block_labels] != list(blocks):
        raise UsageError(
            f"block_labels: {[list(labels) for labels in block_labels]} was given; "
            f"the stages have {', '.join(map(str, blocks))} blocks, each with a label of its own"
        )
    if family == "matterport":
        return _matterport(depth, stem_width, stage_widths, block_labels)
    return _keras_resnet(depth, stem_width, stage_widths, block_labels, classes, stem)


def _label(family: str, depth: int, stage: int, block: int) -> str:
    """Upstream's label of a block: a letter, or in keras-resnet a, b1, b2, ... where a stage was made numerical."""
    numbered = depth in _BASIC or (depth > 50 and stage in (3, 4))
    if family == "keras-resnet" and numbered and block > 0:
        return f"b{block}"
    return chr(ord("a") + block)


def _matterport(depth: int, stem_width: int, stage_widths: Widths, block_labels: Labels) -> keras.Model:
    """Biased convolutions, batch-norm at Keras's default epsilon, stride on the first 1x1, pool ``same``."""
    _, keras = _tensorflow()
    layers = keras.layers

    def conv(x: Any, filters: int, size: int, name: str, **options: Any) -> Any:
        return layers.Conv2D(filters, size, name=name, **options)(x)

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-3, name=name)(x)

    def relu(x: Any, name: str) -> Any:
        return layers.Activation("relu", name=name)(x)

    def block(x: Any, inner: int, outer: int, label: str, stride: int, project: bool) -> Any:
        res, bn = f"res{label}_branch", f"bn{label}_branch"
        y = conv(x, inner, 1, f"{res}2a", strides=stride)
        y = relu(norm(y, f"{bn}2a"), f"{res}2a_relu")
        y = conv(y, inner, 3, f"{res}2b", padding="same")
        y = relu(norm(y, f"{bn}2b"), f"{res}2b_relu")
        y = norm(conv(y, outer, 1, f"{res}2c"), f"{bn}2c")
        shortcut = norm(conv(x, outer, 1, f"{res}1", strides=stride), f"{bn}1") if project else x
        return relu(layers.Add(name=f"res{label}_add")([y, shortcut]), f"res{label}_out")

    image = keras.Input((None, None, 3), name="input_image")
    x = layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = conv(x, stem_width, 7, "conv1", strides=2)
    x = relu(norm(x, "bn_conv1"), "conv1_relu")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    for stage, ((inner, outer), labels) in enumerate(zip(stage_widths, block_labels, strict=True), 2):
        for i, label in enumerate(labels):
            x = block(x, inner, outer, f"{stage}{label}", stride=2 if i == 0 and stage > 2 else 1, project=i == 0)
    return keras.Model(image, x, name=f"matterport_resnet{depth}")


def _keras_resnet(
    depth: int, stem_width: int, stage_widths: Widths, block_labels: Labels, classes: int | None, stem: str
) -> keras.Model:
    """No biases, epsilon 1e-5, a padding layer before each 3x3, and a projection in every stage, basic or not."""
    _, keras = _tensorflow()
    layers = keras.layers

    def conv(x: Any, filters: int, size: int, name: str, **options: Any) -> Any:
        return layers.Conv2D(filters, size, use_bias=False, name=name, **options)(x)

    def pad(x: Any, name: str) -> Any:
        return layers.ZeroPadding2D(1, name=name)(x)

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    def relu(x: Any, name: str) -> Any:
        return layers.Activation("relu", name=name)(x)

    def basic(x: Any, inner: int, outer: int, label: str, stride: int) -> Any:
        y = conv(pad(x, f"padding{label}_branch2a"), inner, 3, f"res{label}_branch2a", strides=stride)
        y = relu(norm(y, f"bn{label}_branch2a"), f"res{label}_branch2a_relu")
        y = conv(pad(y, f"padding{label}_branch2b"), outer, 3, f"res{label}_branch2b")
        return norm(y, f"bn{label}_branch2b")

    def bottleneck(x: Any, inner: int, outer: int, label: str, stride: int) -> Any:
        y = conv(x, inner, 1, f"res{label}_branch2a", strides=stride)
        y = relu(norm(y, f"bn{label}_branch2a"), f"res{label}_branch2a_relu")
        y = conv(pad(y, f"padding{label}_branch2b"), inner, 3, f"res{label}_branch2b")
        y = relu(norm(y, f"bn{label}_branch2b"), f"res{label}_branch2b_relu")
        return norm(conv(y, outer, 1, f"res{label}_branch2c"), f"bn{label}_branch2c")

    image = keras.Input((None, None, 3), name="input_image")
    if stem == "same":
        x = conv(image, stem_width, 7, "conv1", strides=2, padding="same")
    else:
        x = conv(layers.ZeroPadding2D(3, name="padding_conv1")(image), stem_width, 7, "conv1", strides=2)
    x = relu(norm(x, "bn_conv1"), "conv1_relu")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)

    branch = basic if depth in _BASIC else bottleneck
    for stage, ((inner, outer), labels) in enumerate(zip(stage_widths, block_labels, strict=True), 2):
        for i, block in enumerate(labels):
            label, stride = f"{stage}{block}", 2 if i == 0 and stage > 2 else 1
            y, shortcut = branch(x, inner, outer, label, stride), x
            if i == 0:
                shortcut = norm(conv(x, outer, 1, f"res{label}_branch1", strides=stride), f"bn{label}_branch1")
            x = relu(layers.Add(name=f"res{label}")([y, shortcut]), f"res{label}_relu")
    if classes is not None:
        x = layers.GlobalAveragePooling2D(name="pool5")(x)
        x = layers.Dense(classes, activation="softmax", name="fc1000")(x)
    return keras.Model(image, x, name=f"keras_resnet{depth}")


def _keras_applications(
    name: str, stage5: bool, stem_width: int, stage_widths: Widths, classes: int | None
) -> keras.Model:
    """The model that ``keras.applications`` builds; other widths by cloning it with other numbers of filters."""
    _, keras = _tensorflow()
    # As `input_shape`, (None, None, 3) is refused together with the classifier; as a tensor it is not.
    image = keras.Input((None, None, 3), name="input_image")
    upstream = getattr(keras.applications, name)(
        weights=None, include_top=classes is not None, classes=classes or 1000, input_tensor=image
    )
    ends = [layer.output for layer in upstream.layers if re.fullmatch(r"conv4_block\d+_out", layer.name)]
    model = keras.Model(image, upstream.output if stage5 else ends[-1], name=f"keras_applications_{name.lower()}")

    def filters(name: str) -> int:
        if name == "conv1_conv":
            return stem_width
        stage, part = re.fullmatch(r"conv(\d)_block\d+_(\d)_conv", name).groups()  # type: ignore[union-attr]
        inner, outer = stage_widths[int(stage) - 2]
        return inner if part in "12" else outer

    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    if all(layer.filters == filters(layer.name) for layer in convolutions):
        return model

    def with_own_width(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D):
            config["filters"] = filters(layer.name)
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=with_own_width)


# Weights -------------------------------------------------------------------------------------------------------------


def load_file(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Fill a model from a weight file through Keras's own loader, and check that all of it was filled.

    Legacy HDF5 files, weights alone or whole models, are loaded by layer name; v3 ``.weights.h5`` files and ``.keras``
    archives by position. What the file is is read from its contents: its name may be anything.

    Raises WeightsError where Keras refuses the file, where a layer of the model got nothing (loading by name skips
    silently), and where the file has more blocks in one of the model's stages than the model has, as a deeper
    network's file does. The model is then left partly filled with NaN.
    """
    path = Path(path)
    suffix, layers_in_file = _contents(path)
    options = {"by_name": True} if suffix == ".h5" else {}
    for variable in model.variables:
        variable.assign(np.broadcast_to(_UNSET.view(np.float32), variable.shape))
    with _alias(path, suffix) as alias, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hundreds on a wrong v3 file; what they are about is checked below
        try:
            model.load_weights(alias, **options)
        except Exception as error:  # of any kind: neither the file nor the loader is ours
            raise WeightsError(
                f"{path}: Keras cannot load it into {model.name}: {error}; "
                "the file must hold this network: check family, depth and widths with `npresnet info`"
            ) from error

    empty = [
        layer.name
        for layer in model.layers
        if any((variable.value.numpy().view(np.uint32) == _UNSET).all() for variable in layer.variables)
    ]
    own = {layer.name for layer in model.layers}
    stages = {match.group() for match in map(_STAGE.match, own) if match}
    extra = [
        name for name in layers_in_file if name not in own and (match := _STAGE.match(name)) and match.group() in stages
    ]
    if empty or extra:
        facts = [f"{len(empty)} layers of {model.name} are not in it ({', '.join(empty)})"] if empty else []
        facts += [f"{len(extra)} of its layers are not in {model.name} ({', '.join(extra)})"] if extra else []
        raise WeightsError(
            f"{path}: {'; '.join(facts)}; the file must hold exactly this network: check family and depth with "
            "`npresnet info`"
        )


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """The model that a file describes, with its weights, as Keras itself makes it; code in the file is not run.

    Raises WeightsError where Keras refuses, MissingExtraError without TensorFlow.
    """
    _, keras = _tensorflow()
    path = Path(path)
    suffix, _ = _contents(path)
    with _alias(path, suffix) as alias, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return keras.models.load_model(alias, compile=False, safe_mode=True)
        except Exception as error:  # of any kind: neither the file nor the loader is ours
            raise WeightsError(f"{path}: this version of Keras cannot load the model: {error}") from error


def _contents(path: Path) -> tuple[str, list[str]]:
    """The suffix that Keras wants on a file of this layout, and of a legacy file the layers that have weights.

    Raises WeightsError where it is neither HDF5 nor an archive.
    """
    with open_weights(path) as file:
        if file.kind == "keras":
            return ".keras", []
        if file.kind == "shards":
            return ".weights.json", []
        group = file.groups().get("model_weights", file)
        if group.attribute("layer_names") is None:
            return ".weights.h5", []
        return ".h5", [name for name, layer in group.groups().items() if layer.attribute("weight_names")]


@contextlib.contextmanager
def _alias(path: Path, suffix: str) -> Iterator[Path]:
    """The file under a name with that suffix: by it, and not by the contents, Keras chooses how to read."""
    if suffix == ".weights.json":  # its parts are found by its name
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="npresnet-") as folder:
        alias = Path(folder) / f"file{suffix}"
        try:
            alias.symlink_to(path.resolve())
        except OSError:  # Windows keeps links for administrators
            shutil.copyfile(path, alias)
        yield alias


def randomize(model: keras.Model, seed: int, spread: Literal["plain", "trained"] = "plain") -> None:
    """Fill a model with seeded weights under which activations stay of about the same size at any depth.

    Convolutions are He-normal. Batch-norms have gamma 1 +- 0.2, beta +- 0.2, mean +- 0.2 and variance 0.5 to 1.5, in
    units of what their convolution puts out; gamma is five times smaller on the last one of each residual branch, or
    the sums of 152 layers would grow without bound. The stem expects pixels, some 100 in size.

    spread  "plain", or "trained" for what trained files are like and test files are not: per-channel spreads over
            four decades (variances 1e-6 to 1e2), means as large as the deviations, a few gains of 4 and more,
            3 % of the channels dead (gamma 0)

    Each layer's numbers come from the seed and its own name: the same layer gets the same numbers in a cut, a deeper or
    a differently ordered network.

    Raises UsageError for another spread, MissingExtraError without TensorFlow.
    """
    _, keras = _tensorflow()
    if spread not in ("plain", "trained"):
        raise UsageError(f"spread: {spread!r} was given; it must be 'plain' or 'trained'")
    trained = spread == "trained"
    layers = model.layers
    summands = {id(x) for layer in layers if isinstance(layer, keras.layers.Add) for x in layer.input}
    # Of each convolution's output, by tensor: the deviation of every channel.
    deviations: dict[int, NDArray[np.float64]] = {}

    for layer in layers:
        rng = np.random.default_rng([seed, zlib.crc32(layer.name.encode())])
        if isinstance(layer, keras.layers.Conv2D):
            *window, ci, co = layer.kernel.shape
            gain = 10.0 ** rng.uniform(-3, 1, co) if trained else np.ones(co)
            deviation = gain * (1.0 if deviations else 100.0)  # the first one is the stem
            he = np.sqrt(2 / (np.prod(window) * ci))
            layer.kernel.assign(rng.standard_normal(layer.kernel.shape, np.float32) * (he * gain).astype(np.float32))
            if layer.use_bias:
                layer.bias.assign((rng.uniform(-0.2, 0.2, co) * deviation).astype(np.float32))
            deviations[id(layer.output)] = deviation
        elif isinstance(layer, keras.layers.BatchNormalization):
            deviation = deviations[id(layer.input)]
            co = deviation.size
            gamma = rng.uniform(0.8, 1.2, co)
            beta = rng.uniform(-0.2, 0.2, co)
            mean = rng.uniform(-0.2, 0.2, co)
            variance = rng.uniform(0.5, 1.5, co)
            if trained:
                gamma *= np.exp(rng.normal(-0.2, 0.5, co))
                gamma[rng.random(co) < 0.01] *= 4
                gamma[rng.random(co) < 0.03] = 0
                mean *= 5
            # The projection keeps its gain: it alone carries the signal into a stage.
            if id(layer.output) in summands and not layer.name.endswith(("_branch1", "_0_bn")):
                gamma *= 0.2
            layer.gamma.assign(gamma.astype(np.float32))
            layer.beta.assign(beta.astype(np.float32))
            layer.moving_mean.assign((mean * deviation).astype(np.float32))
            layer.moving_variance.assign((variance * deviation**2).astype(np.float32))
        elif isinstance(layer, keras.layers.Dense):
            ci, co = layer.kernel.shape
            layer.kernel.assign(rng.standard_normal((ci, co), np.float32) / np.float32(np.sqrt(ci)))
            layer.bias.assign(rng.uniform(-0.2, 0.2, co).astype(np.float32))


# Running -------------------------------------------------------------------------------------------------------------


def activations(
    model: keras.Model, images: NDArray[np.float32], layers: Sequence[str] | None = None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Run a model one layer at a time and yield each layer's name and output, as soon as it is there.

    Plain TensorFlow operations on the CPU, no graph and no XLA, batch-norm on its moving statistics. A tensor is
    dropped with its last use, so that of a whole network only a few are held at any time.

    images  float32[n, h, w, 3], n, h, w at least 1, prepared as the family wants it
    layers  only these layers' outputs, and only what they need is computed; None for all but the input itself
    yields  (name, array float32[n, h', w', c] or float32[n, c]), inputs before what is computed from them; the array
            is the caller's own

    Raises ImageError for other images and UsageError for layers that the model does not have, both at once and not at
    the first step; MissingExtraError without TensorFlow.
    """
    tensorflow, _ = _tensorflow()
    channels = model.inputs[0].shape[3]
    if not isinstance(images, np.ndarray) or images.dtype != np.float32 or images.shape[3:] != (channels,):
        given = f"{images.dtype}{list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ImageError(
            f"images: {given} was given; they must be float32[n, h, w, {channels}]; convert and stack them"
        )
    if 0 in images.shape:
        raise ImageError(f"images: {list(images.shape)} was given; there must be a pixel; check how they were read")

    source, steps = _flattened(model)
    wanted = {step.layer.name for step in steps} if layers is None else set(layers)
    if unknown := sorted(wanted - {step.layer.name for step in steps}):
        raise UsageError(
            f"layers: {', '.join(unknown)} not in {model.name}; they must be names of its layers; "
            "see `npresnet info` for the list"
        )

    # Backwards: keep what is wanted or read by something kept, and count the readers of each tensor.
    readers: Counter[int] = Counter()
    kept: list[_Step] = []
    for step in reversed(steps):
        if step.layer.name in wanted or readers[step.output]:
            kept.append(step)
            readers.update(step.inputs)
    # Keras's symbolic tensors, by id, and their values, as long as a layer still reads them.
    live = {source: tensorflow.constant(images)}

    def run() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for step in reversed(kept):
            values = [live[x] for x in step.inputs]
            # A graphics card would convolve in TF32. Entered per layer: open over a yield it would reach the caller.
            with tensorflow.device("/CPU:0"):
                output = step.layer(values if step.listed else values[0], **step.options)
            del values
            readers.subtract(step.inputs)
            for x in step.inputs:
                if not readers[x]:
                    live.pop(x, None)
            if readers[step.output]:
                live[step.output] = output
            array = output.numpy() if step.layer.name in wanted else None
            del output
            if array is not None:
                yield step.layer.name, array

    return run()


class _Step(NamedTuple):
    """One layer of a model: the ids of the symbolic tensors that it reads and makes, and how it is called.

    listed   it takes its inputs as a list
    options  what it is called with besides: the value that ``keras.ops.pad`` fills in, for one; and that nothing is
             being trained, which layers that augment images assume
    """

    layer: Any
    inputs: tuple[int, ...]
    output: int
    listed: bool
    options: dict[str, Any]


def _flattened(model: Any, alias: dict[int, int] | None = None) -> tuple[int, list[_Step]]:
    """A model's input, by the id of its tensor, and its layers in the order in which Keras runs them; of models inside
    it their layers. ``alias`` has the ids of their inputs and outputs in the model around."""
    from keras.src.ops.function import make_node_key

    alias = {} if alias is None else alias
    graph = getattr(model, "_functional", None) or model  # a Sequential keeps its graph there
    steps: list[_Step] = []
    for layer in graph.operations:
        nodes = enumerate(layer._inbound_nodes)
        node = next(node for i, node in nodes if make_node_key(layer, i) in graph._nodes)
        if node.is_input:
            continue
        inputs = tuple(alias.get(id(x), id(x)) for x in node.input_tensors)
        if hasattr(layer, "layers"):
            inner = getattr(layer, "_functional", None) or layer
            alias.update(zip(map(id, inner.inputs), inputs, strict=True))
            steps += _flattened(layer, alias)[1]
            alias.update((id(x), alias.get(id(y), id(y))) for x, y in zip(node.outputs, inner.outputs, strict=True))
            continue
        given = node.arguments
        options = {name: value for name, value in given.kwargs.items() if isinstance(value, float)}
        if getattr(layer, "_call_has_training_arg", False):
            options["training"] = False
        steps.append(_Step(layer, inputs, id(node.outputs[0]), isinstance(given.args[0], list), options))
    return id(graph.inputs[0]), steps
