"""What trainers of every framework do with the config: check arguments, build groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from dlsweep.data.base import as_data, check_batch
from dlsweep.errors import ConfigError, DataError, DlsweepError
from dlsweep.run.run import Run
from dlsweep.security.instantiate import instantiate

T = TypeVar("T")

#: What is to be traced: the first and the last batch, counted from 1.
Traced = Sequence[int] | Literal["on", "off"] | bool | None
_TRACED = [10, 20]
#: What a model's config may leave to the data, as null.
FACTS = ("input_shape", "classes")


def check_one_of(name: str, value: object, valid: tuple[str, ...]) -> None:
    """Raises ConfigError if ``training.<name>`` is none of the valid words."""
    if value not in valid:
        raise ConfigError(
            f"training.{name}: Received {value!r}. Expected one of {', '.join(valid)}."
        )


def check_least(name: str, value: int, least: int) -> None:
    """Raises ConfigError if ``training.<name>`` is too small."""
    if value < least:
        raise ConfigError(f"training.{name}: Received {value}. Expected {least} or more.")


def traced_batches(asked: Traced) -> list[int] | None:
    """The first and the last batch that ``training.profiler`` asks to trace, if any.

    Raises:
        ConfigError: If it does not name two batches.
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
    """The callbacks as a list, each of them of one of the kinds.

    Raises:
        ConfigError: If one is something else.
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


def built(run: Run, key: str, kind: type[T]) -> T:
    """What a group of the run's config makes, such as its model.

    Args:
        run: Whose config it is.
        key: The group.
        kind: What it must make.

    Raises:
        ConfigError: If the group is empty, or makes something else.
        DlsweepError: If that is what its target raises.
    """
    node = OmegaConf.select(run.config, key)
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
    """Fills in what the model's config leaves to the data, and checks what it states.

    Args:
        config: Of the run; ``model.input_shape`` and ``model.classes`` may be null.
        found: What ``data`` makes.

    Raises:
        ConfigError: If they are of another shape than the data, or null and data that is not in
            memory does not tell; or if a batch is larger than the training data.
        DataError: If there are more classes in the data.
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
                    f"{key}: a value is needed: data that is not in memory does not tell.\n"
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
