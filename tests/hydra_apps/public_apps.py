"""Five public apps that use Hydra's Optuna sweeper, rebuilt small: their config groups, the block
``hydra.sweeper``, callbacks and return values, with a formula in place of the training.

``line`` is what their own README says to type, ``ours`` what has to be added to it; both stand in
``docs/from-hydra-optuna-sweeper.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

_OFFICIAL = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


@dataclass(frozen=True)
class PublicApp:
    """An app: its files, the command line of its README, and what to add for dlsweep."""

    name: str
    files: dict[str, str]
    line: str
    ours: str
    trials: int
    is_pruned: bool = True


#: A stand-in for a training: three epochs, each reported. The two lines with ``dlsweep`` are added.
_TRAINING = """
import sys
import time
import hydra
import dlsweep


def train(distance, bad=False):
    for epoch in range(1, 4):
        loss = distance + 1 / epoch + 9 * bad
        time.sleep(0.05)
        if dlsweep.report(SIGN * loss, epoch):
            break
    return loss
"""

LIGHTNING = PublicApp(
    "ashleve/lightning-hydra-template",
    {
        "train.py": _TRAINING.replace("SIGN", "-1")
        + """

@hydra.main(version_base="1.3", config_path="configs", config_name="train.yaml")
def main(cfg):
    lr, size = cfg.model.optimizer.lr, cfg.data.batch_size
    metrics = {"val/acc_best": -train(abs(lr - 0.01) * 10, bad=size == 256)}
    assert cfg.paths.output_dir == hydra.core.hydra_config.HydraConfig.get().runtime.output_dir
    return metrics[cfg.optimized_metric]


main()
""",
        "configs/train.yaml": """
# @package _global_
defaults:
  - _self_
  - data: mnist.yaml
  - model: mnist.yaml
  - logger: null
  - paths: default.yaml
  - hydra: default.yaml
  - experiment: null
  - hparams_search: null
  - optional local: default.yaml
  - debug: null
task_name: train
optimized_metric: null
""",
        "configs/data/mnist.yaml": "batch_size: 128\n",
        "configs/model/mnist.yaml": "optimizer: {lr: 0.001, weight_decay: 0.0}\n",
        "configs/paths/default.yaml": """
root_dir: ${oc.env:PROJECT_ROOT,.}
log_dir: ${paths.root_dir}/logs/
output_dir: ${hydra:runtime.output_dir}
work_dir: ${hydra:runtime.cwd}
""",
        "configs/hydra/default.yaml": """
defaults:
  - override hydra_logging: default
  - override job_logging: default
run:
  dir: ${paths.log_dir}/${task_name}/runs/${now:%Y-%m-%d}_${now:%H-%M-%S}
sweep:
  dir: ${paths.log_dir}/${task_name}/multiruns/${now:%Y-%m-%d}_${now:%H-%M-%S}
  subdir: ${hydra.job.num}
job_logging:
  handlers:
    file:
      filename: ${hydra.runtime.output_dir}/${task_name}.log
""",
        "configs/experiment/example.yaml": """
# @package _global_
defaults:
  - override /data: mnist
model: {optimizer: {lr: 0.002}}
""",
        "configs/hparams_search/mnist_optuna.yaml": f"""
# @package _global_
defaults:
  - override /hydra/sweeper: optuna
optimized_metric: val/acc_best
hydra:
  mode: MULTIRUN
  sweeper:
    _target_: {_OFFICIAL}
    storage: null
    study_name: null
    n_jobs: 1
    direction: maximize
    n_trials: 4
    sampler:
      _target_: optuna.samplers.TPESampler
      seed: 1234
      n_startup_trials: 10
    params:
      model.optimizer.lr: interval(0.0001, 0.1)
      data.batch_size: choice(32, 64, 128, 256)
""",
    },
    "-m hparams_search=mnist_optuna experiment=example",
    "hydra/sweeper=dlsweep hydra.sweep.dir=study",
    4,
)

SPHERE = PublicApp(
    "facebookresearch/hydra",  # plugins/hydra_optuna_sweeper/example/sphere.py
    {
        "train.py": _TRAINING.replace("SIGN", "1")
        + """

@hydra.main(version_base=None, config_path="conf", config_name="config")
def sphere(cfg):
    if cfg.error:
        raise RuntimeError("cfg.error is True")
    return train(cfg.x**2 + cfg.y**2, bad=cfg.y == 5)


sphere()
""",
        "conf/config.yaml": """
defaults:
  - override hydra/sweeper: optuna
hydra:
  sweeper:
    sampler:
      seed: 123
    direction: minimize
    study_name: sphere
    storage: null
    n_trials: 5
    n_jobs: 1
    max_failure_rate: 0.0
    params:
      x: range(-5.5,5.5,step=0.5)
      y: choice(-5,0,5)
x: 1
y: 1
z: 100
error: false
""",
    },
    "-m",
    "hydra/sweeper=dlsweep hydra.sweep.dir=study",
    5,
)

KAPITAN = PublicApp(
    "aisingapore/kapitan-hull",
    {
        "train.py": """
import hydra


@hydra.main(version_base=None, config_path="conf", config_name="train_model.yaml")
def main(cfg):
    return cfg.dummy_param1, cfg.dummy_param2 / cfg.train_bs


main()
""",
        "conf/train_model.yaml": """
defaults:
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: tpe
hydra:
  sweeper:
    sampler:
      seed: 55
    direction: ["minimize", "maximize"]
    study_name: base-template
    storage: null
    n_trials: 3
    n_jobs: 1
    params:
      dummy_param1: range(0.9,1.7,step=0.1)
      dummy_param2: choice(0.7,0.8,0.9)
train_bs: 32
dummy_param1: 1.3
dummy_param2: 0.8
""",
    },
    "-m",
    "hydra/sweeper=dlsweep hydra.sweep.dir=study",
    3,
    is_pruned=False,  # it has two objectives
)

PADDLE = PublicApp(
    "PaddlePaddle/PaddleScience",  # examples/fsi/viv.py
    {
        "train.py": _TRAINING.replace("SIGN", "1")
        + """

@hydra.main(version_base=None, config_path="conf", config_name="viv.yaml")
def main(cfg):
    if cfg.mode != "train":
        raise ValueError(f"cfg.mode should be 'train', but got {cfg.mode}")
    return train(abs(cfg.TRAIN.learning_rate - 0.001) * 100, bad=cfg.TRAIN.epochs == 300)


main()
""",
        "callbacks.py": """
import pathlib
from hydra.experimental.callback import Callback


class InitCallback(Callback):
    def on_job_start(self, config, **kwargs):
        pathlib.Path(config.output_dir, "started").touch()
""",
        "conf/ppsci_default.yaml": "mode: train\nseed: 42\noutput_dir: ${hydra:run.dir}\n",
        "conf/TRAIN/train_default.yaml": "epochs: 20\nlearning_rate: 0.01\n",
        "conf/TRAIN/ema/ema_default.yaml": "use_ema: false\ndecay: 0.9\n",
        "conf/viv.yaml": """
defaults:
  - ppsci_default
  - TRAIN: train_default
  - TRAIN/ema: ema_default
  - override hydra/sweeper: optuna
  - _self_
hydra:
  run:
    dir: outputs_VIV/${now:%Y-%m-%d}/${now:%H-%M-%S}/${hydra.job.override_dirname}
  job:
    name: ${mode}
    chdir: false
    config:
      override_dirname:
        exclude_keys: [TRAIN.checkpoint_path, mode]
  callbacks:
    init_callback:
      _target_: callbacks.InitCallback
  sweep:
    dir: ${hydra.run.dir}
    subdir: ./
  sweeper:
    direction: minimize
    study_name: viv_optuna
    n_trials: 4
    n_jobs: 1
    params:
      TRAIN.epochs: choice(100, 200, 300)
      TRAIN.learning_rate: tag(log, interval(1e-4, 1e-1))
""",
    },
    "-m mode=train",
    "hydra/sweeper=dlsweep hydra.sweep.dir=study",
    4,
)

GRAPHIUM = PublicApp(
    "datamol-io/graphium",
    {
        "train.py": _TRAINING.replace("SIGN", "1")
        + """

@hydra.main(version_base=None, config_path="hydra-configs", config_name="main")
def cli(cfg):
    optim = cfg.predictor.optim_kwargs
    score = train(optim.lr, bad=cfg.architecture.gnn.hidden_dims == 96)
    results = {"loss/val": score}
    return results[cfg.hyper_param_search.objective]


cli()
""",
        "hydra-configs/main.yaml": """
defaults:
  - model: gcn
  - tasks: toymix
  - _self_
constants: {seed: 42}
architecture: {gnn: {hidden_dims: 64}}
""",
        "hydra-configs/model/gcn.yaml": """
# @package _global_
defaults:
  - /optimizer@predictor.optim_kwargs: adam
predictor: {metrics: [loss/val]}
""",
        "hydra-configs/optimizer/adam.yaml": "lr: 4.e-5\n",
        "hydra-configs/tasks/toymix.yaml": "# @package _global_\ntask_heads: [qm9, tox21]\n",
        "hydra-configs/hparam_search/optuna.yaml": """
# @package _global_
defaults:
  - override /hydra/sweeper: optuna
  - override /hydra/sweeper/sampler: tpe
hyper_param_search:
  objective: loss/val
hydra:
  sweeper:
    sampler:
      seed: ${constants.seed}
    direction: minimize
    study_name: toymix
    storage: null
    n_trials: 4
    n_jobs: 1
    params:
      predictor.optim_kwargs.lr: tag(log, interval(1e-5, 1e-2))
      architecture.gnn.hidden_dims: choice(32, 64, 96)
""",
    },
    "-m +hparam_search=optuna",
    "hydra/sweeper=dlsweep hydra.sweep.dir=study",
    4,
)

APPS = (LIGHTNING, SPHERE, KAPITAN, PADDLE, GRAPHIUM)
