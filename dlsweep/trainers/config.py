"""Config handling that all trainers share: check arguments, build groups."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

import numpy as np
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from dlsweep.data.base import Array, Data, as_data, check_batch
from dlsweep.errors import ConfigError, DataError, DlsweepError
from dlsweep.run.run import Run
from dlsweep.security.instantiate import instantiate

T = TypeVar("T")

#: The batches to trace: the first and the last, counted from 1.
Traced = Sequence[int] | Literal["on", "off"] | bool | None
_TRACED = [10, 20]
#: The model arguments that a config may leave to the data, as null.
FACTS = ("input_shape", "classes")


def check_one_of(name: str, value: object, valid: tuple[str, ...]) -> None:
    """Raises ConfigError if ``training.<name>`` is not one of the valid words."""
    if value not in valid:
        raise ConfigError(
            f"training.{name}: Received {value!r}. Expected one of {', '.join(valid)}."
        )


def check_least(name: str, value: int, least: int) -> None:
    """Raises ConfigError if ``training.<name>`` is too small."""
    if value < least:
        raise ConfigError(f"training.{name}: Received {value}. Expected {least} or more.")


def traced_batches(asked: Traced) -> list[int] | None:
    """Parses ``training.profiler``: returns the first and the last batch to trace, if any.

    Raises:
        ConfigError: If these are not two batches.
    """
    if asked in (None, False, "off"):
        return None
    batches = _TRACED if asked in (True, "on") else list(cast(Sequence[int], asked))
    if not (len(batches) == 2 and 1 <= batches[0] <= batches[1]):
        raise ConfigError(
            f"training.profiler: Received {batches}. Expected the first and the last batch to "
            f"trace, counted from 1, or on, which means {_TRACED}.\n"
            "Type, for instance,  training.profiler=[100,110]"
        )
    return batches


def checked_callbacks(callbacks: Sequence[object], *kinds: type[T]) -> list[T]:
    """Checks the types of callbacks; returns them as a list.

    Raises:
        ConfigError: If one has another type.
    """
    for number, each in enumerate(callbacks):
        if not isinstance(each, kinds):
            expected = " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
            raise ConfigError(
                f"training.callbacks[{number}]: Received {type(each).__module__}."
                f"{type(each).__qualname__}. Expected a subclass of {expected}, "
                "named by its _target_."
            )
    return cast(list[T], list(callbacks))


def plain(value: T) -> T:
    """Returns a config's dict or list as plain values; anything else as it is."""
    return cast(T, OmegaConf.to_container(value)) if OmegaConf.is_config(value) else value


def built(config: DictConfig, key: str, kind: type[T]) -> T:
    """Builds a group of a run's config, such as its model.

    Args:
        config: The run's config.
        key: The group.
        kind: The type that it must build.

    Raises:
        ConfigError: If the group is empty, or builds another type.
        DlsweepError: If its target raises one.
    """
    node = OmegaConf.select(config, key)
    if not node:
        raise ConfigError(
            f"{key}: Received nothing.\n"
            f"Expected a {key} to train with. Choose one,  {key}=<name>,  or override "
            f"build_{key} in a trainer of your own."
        )
    try:
        made = instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, DlsweepError):
            raise error.__cause__ from None
        raise
    if not isinstance(made, kind):
        raise ConfigError(
            f"{key}: Received {type(made).__module__}.{type(made).__qualname__} from "
            f"{node.get('_target_')}. Expected {kind.__module__}.{kind.__qualname__}."
        )
    return made


def fit_model_to_data(config: DictConfig, found: object) -> None:
    """Fills in the model arguments that are left to the data, and checks the others.

    Args:
        config: The run's config; ``model.input_shape`` and ``model.classes`` may be null.
        found: What ``data`` has built.

    Raises:
        ConfigError: If they do not fit the data; if they are null and the data is not in memory;
            or if a batch is larger than the training data.
        DataError: If the data has more classes.
    """
    data = as_data(found)
    facts = data.facts() if data else {}
    if data and (batch_size := OmegaConf.select(config, "training.batch_size")):
        check_batch(batch_size, len(data.train))
    for name in FACTS:
        key = f"model.{name}"
        stated = OmegaConf.select(config, key)
        if stated is not None:
            _check_fact(key, stated, facts.get(name))
        elif name in (config.get("model") or {}):
            if name not in facts:
                raise ConfigError(
                    f"{key}: a value is needed: the data is not in memory, so it is unknown.\n"
                    f"Type  {key}=<value>"
                )
            OmegaConf.update(config, key, facts[name])


def _check_fact(key: str, stated: Any, found: Any) -> None:
    if OmegaConf.is_list(stated) and found is not None and list(stated) != found:
        raise ConfigError(
            f"{key}: Received {list(stated)}. Expected {found}, the shape of the data's inputs."
        )
    if isinstance(stated, int) and found is not None and found > stated:
        raise DataError(
            f"data: Received labels up to {found - 1}. The model has {stated} classes, 0 to "
            f"{stated - 1}.\nType  {key}={found}"
        )


def check_labels(data: Data | None) -> None:
    """Raises DataError if data in memory has values as targets, for a loss of classes."""
    if data and (kind := data.train.targets.dtype).kind == "f":
        raise DataError(
            f"training.loss: Received 'cross_entropy' and targets of the type {kind}, which are "
            "values and not classes.\nType  training.loss=mse  or, for a table,  "
            "data.task=regression"
        )


def target_scale(run: Run) -> tuple[Array, Array] | None:
    """Returns mean and deviation of the targets that a run has standardized, as float32.

    None if it has trained on the targets as they are.
    """
    file = run.dir.path / "data.json"
    record = json.loads(file.read_text()) if file.exists() else {}
    if "target_std" not in record:
        return None
    mean, std = (np.asarray(record[name], np.float32) for name in ("target_mean", "target_std"))
    return mean, std
