"""Whether configs that differ in one key have models whose weights have other shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dlsweep.data.base import as_data
from dlsweep.trainers.config import fit_model_to_data
from dlsweep.trial.signature import build, is_trainer, locate


def change_of_weights(configs: Sequence[DictConfig]) -> str:
    """Says how the weights of the first config's model differ from another one's.

    The models are built only if the configs of models or data differ.

    Args:
        configs: Valid configs that differ in one key.

    Returns:
        A sentence; empty if they are the same, or if nobody knows them before the training.
    """
    first, *others = map(_resolved, configs)
    for other in others:
        if all(first.get(key) == other.get(key) for key in ("model", "data")):
            continue
        here, there = _shapes(first), _shapes(other)
        for name in dict.fromkeys([*here, *there]):
            if here.get(name) != there.get(name):
                return (
                    f"the weights {name} have the shape {here.get(name, 'none')} for one of its "
                    f"values and {there.get(name, 'none')} for another"
                )
    return ""


def _resolved(config: DictConfig) -> DictConfig:
    OmegaConf.resolve(config)
    return config


def _shapes(config: DictConfig) -> Mapping[str, list[int]]:
    target: Any = locate("training", config.training["_target_"])
    if not is_trainer(target):
        return {}
    trainer = build("training", config.training)
    data = build("data", config.data) if "_target_" in (config.get("data") or {}) else None
    data = as_data(data) or data
    fit_model_to_data(config, data)
    shapes: Mapping[str, list[int]] = trainer.weight_shapes(config, data)
    return shapes
