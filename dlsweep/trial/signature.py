"""Checks a config against the signatures of its targets, before they are called.

The error of an unknown key has the nearest argument; that of a wrong type has the expected type.
The check runs where the trial would run, so it also finds what cannot be imported there.
"""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from hydra._internal.utils import _locate  # the public get_object logs a traceback
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf

from dlsweep.data.base import as_data
from dlsweep.errors import ConfigError, DlsweepError, did_you_mean
from dlsweep.machine.devices import node_count
from dlsweep.security.instantiate import instantiate
from dlsweep.trainers.base import Trainer
from dlsweep.trainers.config import FACTS, fit_model_to_data
from dlsweep.trial.system_metrics import check_seconds

_RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def locate(key: str, target: str) -> Any:
    """Imports a ``_target_``.

    Raises:
        ConfigError: If it cannot be imported; contains the reason.
    """
    try:
        return _locate(target)
    except Exception as error:  # noqa: BLE001 - an import may raise anything
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ConfigError(
            f"{key}._target_: {target!r} cannot be imported: {type(cause).__name__}: {cause}\n"
            "Expected the dotted path of a class or function; modules in the current folder count."
        ) from None


def build(key: str, node: Any) -> Any:
    """Builds a config node's ``_target_``.

    Raises:
        ConfigError: If its arguments do not fit.
        DlsweepError: If the target raised one.
    """
    try:
        return instantiate(node)
    except DlsweepError:
        raise
    except Exception as error:  # noqa: BLE001 - Hydra 1.4 raises whatever the target raises
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if isinstance(cause, DlsweepError):
            raise cause from None
        wrong = _wrong_arguments(key, node) if isinstance(cause, TypeError | ValueError) else ""
        raise ConfigError(wrong or f"{key}: {cause or error}") from cause


def _wrong_arguments(key: str, node: Any) -> str:
    config = OmegaConf.create(node)
    return "\n".join(_mismatches(key, locate(key, config["_target_"]), config))


def problems(config: DictConfig) -> list[str]:
    """Returns a sentence for each problem of a composed config."""
    found: list[str] = []
    try:
        OmegaConf.resolve(config)
    except Exception as error:  # noqa: BLE001 - whatever a resolver raises is the user's to see
        key = _unresolved(config)
        reason = str(error).partition("\n")[0]  # OmegaConf 2.4 adds the key and its type
        return [f"{key}: it cannot be resolved: {reason}.\nType  {key}=<value>"]
    if missing := OmegaConf.missing_keys(config):
        return [f"{key}: a value is needed.  Type  {key}=<value>" for key in sorted(missing)]
    if OmegaConf.is_dict(config.get("experiment")):
        keys = ", ".join(f"experiment.{key}" for key in config.experiment)
        found.append(
            f"experiment: Received {keys}, which nothing reads. Expected an experiment's keys at "
            "the config's root.\nType  # @package _global_  as the first line of its YAML file."
        )
    for key, node in _targets(config):
        try:
            target = locate(key, node["_target_"])
        except ConfigError as error:
            found.append(str(error))
            continue
        if key != "training" or is_trainer(target):
            found += _mismatches(key, target, node)
        elif not callable(target):
            found.append(f"training._target_: {node['_target_']} is not callable.")
    return found or _refusals(config)


def is_trainer(target: Any) -> bool:
    """Whether a target is a Trainer class, not a plain function."""
    return inspect.isclass(target) and issubclass(target, Trainer)


def _refusals(config: DictConfig) -> list[str]:
    """Builds trainer and data, which is cheap next to a trial; returns their errors."""
    found = _refusal(lambda: check_seconds(config.get("system_metrics")))
    training = config.get("training")
    target: Any = locate("training", training["_target_"]) if training else None
    built: list[Trainer] = []

    def prepare() -> None:
        built.append(build("training", training))
        built[0].preflight()

    if training and (why := _refusal(lambda: _check_nodes(config, target))):
        return found + why
    if is_trainer(target):
        found += _refusal(prepare)
        found += _refusal(lambda: _check_model_kind(config, target))
    if "_target_" in (config.get("data") or {}):
        found += _refusal(lambda: _check_data(config, built))
    return found


def _check_nodes(config: DictConfig, target: Any) -> None:
    """Raises ConfigError if a trial has several nodes, and its training one process."""
    nodes = node_count()
    if nodes > 1 and not (is_trainer(target) and target.process_count(config.training) > 1):
        raise ConfigError(
            f"launcher.nodes_per_trial: Received {nodes} with training._target_="
            f"{config.training['_target_']}, which trains in one process.\n"
            "Expected a PyTorch trainer. Type  launcher.nodes_per_trial=1"
        )


def _check_data(config: DictConfig, trainers: Sequence[Trainer]) -> None:
    """Raises DlsweepError if the data does not fit the model, or the trainer if there is one."""
    data = build("data", config.data)
    data = as_data(data) or data
    fit_model_to_data(config, data)
    for trainer in trainers:
        trainer.check_data(data)
        trainer.check_model(config, data)


def _refusal(attempt: Callable[[], object]) -> list[str]:
    try:
        attempt()
    except DlsweepError as error:
        return [str(error)]
    return []


def _check_model_kind(config: DictConfig, trainer: type[Trainer]) -> None:
    """Raises ConfigError if model and trainer are known to be of different frameworks."""
    target = (config.get("model") or {}).get("_target_")
    kind, builder = trainer.model_kind, _definer(trainer, "build_model")
    if not target or kind is None or builder is not _definer(trainer, "model_kind"):
        return
    model = locate("model", target)
    made = model if inspect.isclass(model) else _hints(model).get("return")
    if made is Any or not inspect.isclass(made) or issubclass(made, kind) or issubclass(kind, made):
        return
    raise ConfigError(
        f"model._target_: {target!r} makes a {made.__module__}.{made.__qualname__}. "
        f"Expected a {kind.__module__}.{kind.__qualname__}, which {trainer.__name__} trains.\n"
        "Choose such a model, or its framework:  framework=keras, framework=torch"
    )


def _definer(kind: type, name: str) -> type | None:
    """Returns the class that defines an attribute."""
    return next((one for one in kind.__mro__ if name in vars(one)), None)


def _unresolved(config: DictConfig) -> str:
    """Returns the key of the first value that cannot be resolved."""
    try:
        OmegaConf.to_container(config, resolve=True)
    except Exception as error:  # noqa: BLE001 - as above
        return str(getattr(error, "full_key", ""))
    return ""


def _targets(node: Any, prefix: str = "") -> Iterator[tuple[str, DictConfig]]:
    if isinstance(node, ListConfig):
        for number, each in enumerate(node):
            yield from _targets(each, f"{prefix[:-1]}[{number}].")
    if not isinstance(node, DictConfig) or prefix in ("launcher.", "tracking."):
        return
    if "_target_" in node:
        yield prefix[:-1], node
    for name in map(str, node):
        yield from _targets(node[name], f"{prefix}{name}.")


def _mismatches(key: str, target: Callable[..., Any], node: DictConfig) -> Iterator[str]:
    try:
        signature = inspect.signature(target)
        hints = _hints(target)
    except (TypeError, ValueError):
        return  # a built-in without a signature: the call itself will raise
    parameters = signature.parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in map(str, node):
        value = node[name]
        if name in _RESERVED or (key == "model" and name in FACTS and value is None):
            continue
        if name not in parameters:
            if not open_ended:
                hint = did_you_mean(name, parameters)
                yield f"{key}.{name}: {node['_target_']} takes no {name!r}.{hint}"
        else:
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            hint_type = hints.get(name, Any)
            if not conforms(plain, hint_type):
                yield (
                    f"{key}.{name}: Received {plain!r} ({type(plain).__name__}). "
                    f"Expected {describe(hint_type)}."
                )
    if not node.get("_partial_"):
        for name, parameter in parameters.items():
            kinds = (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            is_needed = parameter.default is parameter.empty and parameter.kind not in kinds
            if is_needed and name not in node and "_args_" not in node:
                yield f"{key}.{name}: {node['_target_']} needs it.  Type  +{key}.{name}=<value>"


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}  # annotations for type checkers only cannot be resolved


def conforms(value: Any, hint: Any) -> bool:
    """Whether a plain config value fits a type annotation; other values always do."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if isinstance(value, Mapping) and "_target_" in value:
        return True  # its type is known once it is built
    if origin in (Union, types.UnionType):
        return any(conforms(value, one) for one in args)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in args)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        inner = args[0] if args else Any
        return isinstance(value, list | tuple) and all(conforms(one, inner) for one in value)
    if origin in (dict, Mapping) or hint is dict:
        inner = args[1] if args else Any
        return isinstance(value, Mapping) and all(conforms(v, inner) for v in value.values())
    if inspect.isclass(hint):
        is_path = isinstance(value, str) and issubclass(hint, os.PathLike)
        return is_path or isinstance(value, hint)
    return True


def describe(hint: Any) -> str:
    """Describes a type annotation in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(one) for one in args)
    if origin is Literal:
        return ", ".join(repr(one) for one in args)
    if hint is type(None):
        return "null"
    if inspect.isclass(hint) and not args:
        return str(hint.__name__)
    return str(hint).replace("typing.", "").replace("collections.abc.", "")
