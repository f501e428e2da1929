"""Which layer of a description reads what: models inside models laid out flat, one ``Node`` for each use of a layer.

    {"class_name": "Functional", "config": {"layers": [...], "input_layers": ..., "output_layers": ...}}

Every layer lists its uses (``inbound_nodes``), each with what the layer is called with: tensors, by [layer, number of its use,
number of its output], and other arguments. Keras 1, 2 and 3 write that differently; a function (``x + 1``, ``tf.nn.relu``) is a
layer, too. Here nothing is known of what layers compute.

A layer that cannot be understood costs that layer, and what depends on it: its node says why (``trouble``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Config", "Node", "NotDescribed", "Tensor", "Wiring", "flattened"]

Config = Mapping[str, Any]

_MOST_NODES = 200_000
_MOST_MODELS = 5_000  # models that are used many times inside each other multiply


class NotDescribed(Exception):
    """A config does not say what layers there are; the text says why."""


@dataclass(frozen=True)
class Tensor:
    """In the arguments of a layer: the one of its inputs that stands there."""

    position: int


@dataclass
class Node:
    """One use of a layer.

    name       of its own: the layer's, with its model's in front where another layer has that name ("model/conv"), and a number
               behind where the layer is used again ("conv@1")
    path       of the layer: the names of the models that it is in, from the outermost but one, and its own
    kind       its class; module is where that is from, as far as the file says
    inputs     names of the nodes that make what it reads
    arguments  what it is called with beside, {position or name: value}; in them, ``Tensor`` stands for an input
    trouble    why it cannot be run, as far as that is seen here
    """

    name: str
    path: tuple[str, ...]
    kind: str
    config: Config
    module: str = ""
    inputs: list[str] = field(default_factory=list)
    arguments: dict[int | str, Any] = field(default_factory=dict)
    trouble: str | None = None

    @property
    def layer(self) -> str:
        """The layer's own name."""
        return self.path[-1]


@dataclass(frozen=True)
class Wiring:
    """A model laid out flat.

    nodes    each after those that it reads
    inputs   names of the nodes that are fed, in the model's order
    outputs  names of the nodes that make its outputs, in the structure in which the model returns them: a name, a list, or
             {key: ...}; None for an output that nothing makes
    keras    version of Keras that wrote it: 3, or 2 for all before
    """

    nodes: Sequence[Node]
    inputs: Sequence[str]
    outputs: Any
    keras: int


class _Source(NamedTuple):
    """What is read: a layer in the same model, which of its uses, which of the outputs."""

    layer: str
    use: int
    output: int


@dataclass
class _Use:
    """One call of a layer: what it is called with."""

    sources: list[_Source] = field(default_factory=list)
    arguments: dict[int | str, Any] = field(default_factory=dict)
    trouble: str | None = None


_Value = list[str | None]
"""The outputs of a use: names of nodes, None for what is not there."""


def flattened(model: Any) -> Wiring:
    """A model's layers, and those of models inside it. Raises NotDescribed where a config describes no layers at all."""
    if not isinstance(model, Mapping) or not is_model(model):
        kind = model.get("class_name") if isinstance(model, Mapping) else None
        raise NotDescribed(
            f"the model is a {kind!r}, of which the file lists no layers" if kind else "it is no model's"
        )
    laid = _Laid()
    try:
        outputs = laid.model(model, (), None)
        inner = model["config"]
        order = [source.layer for source in _sources(inner.get("input_layers"))] if isinstance(inner, Mapping) else []
    except RecursionError:
        raise NotDescribed("models lie inside models too deeply") from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise NotDescribed(
            f"its inputs and outputs are not understood ({type(error).__name__}: {error})"[:200]
        ) from None
    entries = [node.name for node in laid.nodes if node.kind == "InputLayer"]
    inputs = [name for name in order if name in entries]
    if isinstance(outputs, list) and len(outputs) == 1:
        (outputs,) = outputs
    return Wiring(laid.nodes, [*inputs, *(name for name in entries if name not in inputs)], outputs, laid.keras)


def is_model(layer: Config) -> bool:
    """Whether a layer is made of layers, and says of which."""
    inner = layer.get("config")
    if isinstance(inner, list):
        return layer.get("class_name") == "Sequential"
    return isinstance(inner, Mapping) and isinstance(inner.get("layers"), list)


class _Laid:
    """The nodes of a model and of those inside it, while they are laid out."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.models = 0
        self.keras = 2
        self._owners: dict[str, tuple[str, ...]] = {}  # a layer's name: the path of the first that has it
        self._names: set[str] = set()
        self._uses: dict[tuple[str, ...], int] = {}  # a layer's path: how many nodes it has

    def add(self, path: tuple[str, ...], layer: Config, use: _Use, inputs: list[str]) -> str:
        """A node more. Returns its name."""
        if len(self.nodes) >= _MOST_NODES:
            raise NotDescribed(f"it has more than {_MOST_NODES} layers")
        own = path[-1]
        base = own if self._owners.setdefault(own, path) == path else "/".join(path)
        number = self._uses.get(path, 0)
        name = base if number == 0 else f"{base}@{number}"
        while name in self._names:  # only where names are made up to collide
            name += "'"
        self._uses[path] = number + 1
        self._names.add(name)
        config = layer.get("config")
        kind, trouble = (
            str(layer.get("class_name")).rpartition(">")[2],
            use.trouble,
        )  # "Package>Name" of a registered class
        if not isinstance(config, Mapping):
            config, trouble = {}, trouble or "its description has no settings"
        module = str(layer.get("module") or "")
        self.nodes.append(Node(name, path, kind, config, module, inputs, use.arguments, trouble))
        return name

    def model(self, model: Config, path: tuple[str, ...], feeds: Mapping[str, str | None] | _Value | None) -> Any:
        """Lay out a model's layers. Returns the names of its outputs, in their structure.

        feeds  what the model reads, by the names of its inputs or in their order; None for the outermost
        """
        self.models += 1
        if self.models > _MOST_MODELS:
            raise NotDescribed(f"it has more than {_MOST_MODELS} models, as often as they are used inside each other")
        inner = model["config"]
        inner = {"layers": inner} if isinstance(inner, list) else inner  # Keras 1 and early 2: a Sequential's bare list
        layers = {name: layer for layer in inner["layers"] if (name := _name(layer)) is not None}
        if not layers:
            raise NotDescribed(f"model {'/'.join(path) or inner.get('name')!r} has no layers")
        chain = "output_layers" not in inner
        if any(_written_by_keras_3(layer) for layer in layers.values()):
            self.keras = 3
        uses = _chained(layers) if chain else {name: _uses(layer) for name, layer in layers.items()}
        ends = None if chain else inner["output_layers"]
        shifted = _counted_from_one(layers, uses, [*_sources(ends)])
        if not any(map(_written_by_keras_3, layers.values())):
            for called in (called for ones in uses.values() for called in ones):
                called.sources = [_from_zero(source, shifted) for source in called.sources]
        values: dict[tuple[str, int], _Value] = {}
        if chain:
            self._begin_chain(inner, layers, uses, path, feeds, values)
        elif feeds is not None:
            self._given(inner, feeds, values)
        for name, use in _in_order(uses, values):
            self._lay(layers[name], (*path, name), uses[name][use], values, (name, use))
        if chain:
            return values[next(reversed(layers)), 0][0]
        return _mapped(ends, lambda source: _output(values, _from_zero(source, shifted)))

    def _begin_chain(
        self,
        inner: Config,
        layers: Mapping[str, Config],
        uses: Mapping[str, list[_Use]],
        path: tuple[str, ...],
        feeds: Mapping[str, str | None] | _Value | None,
        values: dict[tuple[str, int], _Value],
    ) -> None:
        """What the first layer of a Sequential reads."""
        first = next(iter(layers))
        given = list(feeds.values() if isinstance(feeds, Mapping) else feeds or [])
        if layers[first].get("class_name") == "InputLayer":
            if given:
                values[first, 0] = given[:1]
            return
        if not given:
            settings = layers[first].get("config")
            shape = settings.get("batch_input_shape") if isinstance(settings, Mapping) else None
            shape = shape or inner.get("build_input_shape")
            if shape is None and is_model(layers[first]):
                return  # which has an input of its own
            entry = {"class_name": "InputLayer", "config": {"batch_shape": shape}}
            given = [self.add((*path, "input"), entry, _Use(), [])]
        values["", 0] = given[:1]
        uses[first][0].sources = [_Source("", 0, 0)]

    @staticmethod
    def _given(inner: Config, feeds: Mapping[str, str | None] | _Value, values: dict[tuple[str, int], _Value]) -> None:
        """The inputs of a model inside another are what it is called with."""
        inputs = inner.get("input_layers", [])
        if isinstance(feeds, Mapping):
            by_key = {key: next(_sources(one)).layer for key, one in inputs.items()} if isinstance(inputs, dict) else {}
            values.update({(by_key.get(key, key), 0): [feed] for key, feed in feeds.items()})
        else:
            values.update({(source.layer, 0): [feed] for source, feed in zip(_sources(inputs), feeds, strict=False)})

    def _lay(
        self,
        layer: Config,
        path: tuple[str, ...],
        use: _Use,
        values: dict[tuple[str, int], _Value],
        place: tuple[str, int],
    ) -> None:
        """One use of a layer: the nodes that it comes to, and what it makes."""
        if place in values:  # an input that is given
            return
        reads = [_output(values, source) for source in use.sources]
        inputs = [name for name in reads if name is not None]
        if len(inputs) < len(reads):  # what it depends on is missing; that is told there
            use.trouble = use.trouble or "what it reads is not described"
        entry = layer.get("class_name") == "InputLayer"
        if is_model(layer) and use.trouble is None:
            if use.arguments.get("training"):
                use.trouble = (
                    "it is a model that is called with training=True: its batch-norms then go by the statistics of the batch, "
                    "so that no image has an answer of its own; call it with training=False and save again"
                )
            else:
                feeds = self._feeds(use, reads) if use.sources else None
                try:
                    values[place] = list(_flat(self.model(layer, path, feeds)))
                    return
                except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                    use.trouble = f"its layers are not understood ({error!r})"[:200]
        if not entry and not inputs and use.trouble is None:
            use.trouble = "it reads nothing"
        values[place] = [self.add(path, layer, use, inputs)]

    @staticmethod
    def _feeds(use: _Use, reads: _Value) -> Mapping[str, str | None] | _Value:
        """What a model is called with: by the names of its inputs where it is called so."""
        first = next(iter(use.arguments.values()), None)
        if isinstance(first, dict):
            return {key: reads[one.position] for key, one in first.items() if isinstance(one, Tensor)}
        return reads


def _counted_from_one(
    layers: Mapping[str, Config], uses: Mapping[str, list[_Use]], ends: Sequence[_Source]
) -> set[str]:
    """The models whose uses are counted from 1, because Keras takes their making for the first, though it does not list that: Keras
    2, since it is part of TensorFlow, everywhere; Keras 3 where it names the outputs."""
    keras_3 = any(map(_written_by_keras_3, layers.values()))
    read = [] if keras_3 else [source for ones in uses.values() for use in ones for source in use.sources]
    numbers: dict[str, set[int]] = {}
    for source in (*read, *ends):
        numbers.setdefault(source.layer, set()).add(source.use)
    return {
        name
        for name, layer in layers.items()
        if is_model(layer)
        and 0 not in numbers.get(name, {0})
        and not (keras_3 and layer.get("class_name") == "Sequential")
    }


def _from_zero(source: _Source, shifted: set[str]) -> _Source:
    return source._replace(use=source.use - 1) if source.layer in shifted else source


def _name(layer: Any) -> str | None:
    """A layer's name; None for what is no layer."""
    if not isinstance(layer, Mapping):
        return None
    settings = layer.get("config")
    name = layer.get("name") or (settings.get("name") if isinstance(settings, Mapping) else None)
    return name if isinstance(name, str) else None


def _chained(layers: Mapping[str, Config]) -> dict[str, list[_Use]]:
    """The uses of a Sequential's layers: each reads the one before."""
    uses, before = {}, None
    for name in layers:
        uses[name] = [_Use([_Source(before, 0, 0)] if before is not None else [])]
        before = name
    return uses


def _in_order(uses: Mapping[str, list[_Use]], values: Mapping[tuple[str, int], Any]) -> Iterator[tuple[str, int]]:
    """All uses of a model's layers, each after those that it reads, otherwise as they are listed; a circle is broken where it is
    entered, and that use gets to know."""
    done: set[tuple[str, int]] = set()
    for start in [(name, number) for name, ones in uses.items() for number in range(len(ones))]:
        waiting, open_ = [start], set[tuple[str, int]]()
        while waiting:
            place = waiting[-1]
            if place in done:
                waiting.pop()
                continue
            use = uses[place[0]][place[1]]
            if place in open_:
                waiting.pop()
                done.add(place)
                yield place
                continue
            open_.add(place)
            for source in use.sources:
                before = (source.layer, source.use)
                if before in done or before in values:
                    continue
                if before in open_:
                    use.trouble = "it reads what is computed from it"
                elif source.layer in uses and 0 <= source.use < len(uses[source.layer]):
                    waiting.append(before)


def _output(values: Mapping[tuple[str, int], _Value], source: _Source) -> str | None:
    found = values.get((source.layer, source.use), [])
    return found[source.output] if 0 <= source.output < len(found) else None


# ---------------------------------------------------------------------------------------------------------------------
# How Keras writes calls


def _written_by_keras_3(layer: Config) -> bool:
    nodes, settings = layer.get("inbound_nodes"), layer.get("config")
    policy = settings.get("dtype") if isinstance(settings, Mapping) else None
    registered = isinstance(policy, Mapping) and str(policy.get("module")) == "keras"
    return registered or (isinstance(nodes, list) and bool(nodes) and isinstance(nodes[0], Mapping))


def _uses(layer: Config) -> list[_Use]:
    """All uses of a layer in its model."""
    nodes = layer.get("inbound_nodes")
    if not nodes:
        return [_Use()]
    found = []
    for node in nodes if isinstance(nodes, list) else []:
        try:
            found.append(_keras_3(node) if isinstance(node, Mapping) else _keras_2(node, layer))
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError):
            found.append(_Use(trouble="how it is called is not understood"))
    return found


def _keras_3(node: Config) -> _Use:
    """{"args": [...], "kwargs": {...}}, tensors and other objects by their classes."""
    use = _Use()
    for key, value in (*enumerate(node.get("args") or ()), *(node.get("kwargs") or {}).items()):
        use.arguments[key] = _plain(value, use.sources)
    if use.arguments.get("training") is not None:
        del use.arguments["training"]  # what the network is called with counts: when it is run, False
    return use


def _plain(value: Any, sources: list[_Source]) -> Any:
    """An argument as Python has it: numbers, lists, slices; what is read is added to ``sources``."""
    if isinstance(value, list):
        return [_plain(item, sources) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    settings: Any = value.get("config")
    if kind == "__keras_tensor__":
        sources.append(_source(value["config"]["keras_history"]))
        return Tensor(len(sources) - 1)
    if kind in ("__tensor__", "__numpy__"):
        return settings["value"]
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__slice__":
        return slice(*(settings[end] for end in ("start", "stop", "step")))
    return {key: _plain(item, sources) for key, item in value.items()}


def _keras_2(node: Any, layer: Config) -> _Use:
    """[[layer, use, output, {arguments}], ...], or for a function one of these alone; before version 2 without arguments.

    In the arguments of a function a tensor is [layer, use, output], too. A constant in the first place is
    ["_CONSTANT_VALUE", -1, value, {arguments}].
    """
    use = _Use()
    function = str(layer.get("class_name")) in _FUNCTIONS
    further: Mapping[str, Any] = {}

    def first(value: Any) -> Any:
        nonlocal further
        if isinstance(value, dict):
            return {key: first(item) for key, item in value.items()}
        if value and isinstance(value[0], str):
            if len(value) > 3 and isinstance(value[3], Mapping):
                further = value[3]
            if value[0] == "_CONSTANT_VALUE":
                return value[2]
            use.sources.append(_source(value))
            return Tensor(len(use.sources) - 1)
        return [first(item) for item in value]

    def rest(value: Any) -> Any:
        if isinstance(value, list):
            if len(value) == 3 and isinstance(value[0], str) and all(type(number) is int for number in value[1:]):
                use.sources.append(_source(value))
                return Tensor(len(use.sources) - 1)
            return [rest(item) for item in value]
        if isinstance(value, dict):
            if value.get("class_name") == "__ellipsis__":
                return Ellipsis
            if value.keys() == {"start", "stop", "step"}:
                return slice(value["start"], value["stop"], value["step"])
            return {key: rest(item) for key, item in value.items()}
        return value

    given = first(node)
    if not function and isinstance(given, list) and len(given) == 1:
        (given,) = given
    use.arguments = {0: given, **{key: rest(value) for key, value in further.items()}}
    if not function and use.arguments.get("training") is False:
        del use.arguments["training"]
    return use


_FUNCTIONS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")


def _source(value: Any) -> _Source:
    name, use, output = value[0], value[1], value[2]
    if not isinstance(name, str) or type(use) is not int or type(output) is not int:
        raise ValueError(value)
    return _Source(name, use, output)


def _sources(layers: Any) -> Iterator[_Source]:
    """Of ``input_layers``: [name, use, output], or a list or a dict of such."""
    if isinstance(layers, dict):
        for one in layers.values():
            yield from _sources(one)
    elif isinstance(layers, list) and layers:
        if isinstance(layers[0], str):
            yield _source([*layers, 0, 0])
        else:
            for one in layers:
                yield from _sources(one)


def _mapped(layers: Any, make: Any) -> Any:
    """``output_layers`` with ``make(source)`` in the place of each source, in the structure in which a model returns them."""
    if isinstance(layers, dict):
        return {str(key): _mapped(one, make) for key, one in layers.items()}
    if not isinstance(layers, list) or not layers:
        return None
    if isinstance(layers[0], str):
        return make(_source([*layers, 0, 0]))
    return [_mapped(one, make) for one in layers]


def _flat(outputs: Any) -> Iterator[str | None]:
    """The names in a structure of outputs, in Keras's order."""
    if isinstance(outputs, dict):
        for key in sorted(outputs):
            yield from _flat(outputs[key])
    elif isinstance(outputs, list):
        for one in outputs:
            yield from _flat(one)
    else:
        yield outputs
