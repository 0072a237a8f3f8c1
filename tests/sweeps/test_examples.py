"""Each example under experiments/ is swept; its best model is loaded again and predicts alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

import dlsweep

pytestmark = pytest.mark.slow

KERAS = ["sequential", "functional", "subclassed", "train_step", "gradient_tape"]
EXAMPLES = [
    *[(f"keras_{name}", ()) for name in KERAS],
    ("torch_training_step", ()),
    ("two_branches", ("framework=torch",)),
    ("two_branches", ("framework=keras",)),
    ("text", ("framework=torch",)),
    ("text", ("framework=keras",)),
    ("mnist", ("framework=keras", "model=resnet", "model.blocks=1")),
    ("mnist", ("framework=torch", "model=resnet", "model.blocks=1")),
]


def predicted(model: object, inputs: object) -> np.ndarray:
    if hasattr(model, "predict"):
        return np.asarray(model.predict(inputs, verbose=0))
    import torch

    with torch.no_grad():
        return np.asarray(
            model(
                {name: torch.from_numpy(each) for name, each in inputs.items()}
                if isinstance(inputs, dict)
                else torch.from_numpy(inputs)
            )
        )


@pytest.mark.parametrize(("name", "choices"), EXAMPLES)
def test_an_example_is_swept_saved_and_loaded_again(
    warm_project, name: str, choices: tuple
) -> None:
    small = ("training.epochs=1", "tracking=none", "training.optimizer.lr=0.003,0.01")
    if "model=resnet" in choices:
        small += ("model.channels=[2,4]", "training.batch_size=1000")
    output = warm_project.run(f"+experiment={name}", *choices, *small, "-m")
    assert f"{name}: 2 trials" in output
    table = warm_project.table(name)
    assert set(table["state"]) <= {"completed", "pruned"}
    trial = warm_project.trials(name)[0]

    model = dlsweep.load_model(trial)
    config = OmegaConf.load(trial / ".hydra" / "config.yaml")
    data = instantiate(config.data)
    outputs = predicted(model, data.normalise(data.validation.inputs))
    measured = json.loads((trial / "result.json").read_text())["metrics"]["val/accuracy"]
    found = float((outputs.argmax(1) == data.validation.targets).mean())
    assert found == pytest.approx(measured, abs=1e-3)


def test_sentences_are_padded_batch_by_batch_and_padding_changes_nothing(warm_project) -> None:
    import torch

    padded = "data._target_=experiments.text_torch.loaders"
    fixed = ("tracking=none", "training.epochs=12", "training.optimizer.lr=0.03")
    warm_project.run("+experiment=text", padded, *fixed, "hydra.run.dir=run")
    result = json.loads((warm_project.path / "run" / "result.json").read_text())
    assert result["metrics"]["val/accuracy"] > 0.9
    model = dlsweep.load_model(warm_project.path / "run")
    tokens = torch.tensor([[5, 190, 191]])
    longer = torch.nn.functional.pad(tokens, (0, 9))
    torch.testing.assert_close(model(tokens), model(longer))


def test_keras_masks_the_padding(warm_project) -> None:
    run = ("+experiment=text", "framework=keras", "training.epochs=1", "tracking=none")
    warm_project.run(*run, "hydra.run.dir=run")
    model = dlsweep.load_model(warm_project.path / "run")
    tokens = np.array([[5, 190, 191]])
    longer = np.pad(tokens, ((0, 0), (0, 9)))
    np.testing.assert_allclose(predicted(model, tokens), predicted(model, longer), rtol=1e-5)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_what_a_network_has_learned_is_kept_and_taken_further(warm_project, framework: str) -> None:
    small = ("tracking=none", f"framework={framework}")
    first = ("model=cnn", "training.epochs=1", "hydra.run.dir=digits")
    warm_project.run(*first, *small)
    given = ("+experiment=transfer", "training.initial_weights=digits")
    warm_project.run(*given, "hydra.run.dir=odd", "training.epochs=2", *small)
    before, after = (dlsweep.load_model(warm_project.path / name) for name in ("digits", "odd"))
    if framework == "keras":
        kept = zip(before.weights[:10], after.weights[:10], strict=True)
        assert all(np.array_equal(one, other) for one, other in kept)
    else:
        known = before.state_dict()
        frozen = {name for name in known if name.startswith(("layers.0.", "layers.1."))}
        assert len(frozen) == 12
        for name, weight in after.state_dict().items():
            is_same = weight.shape == known[name].shape and bool((weight == known[name]).all())
            assert is_same == (name in frozen), name


@pytest.mark.parametrize(("framework", "file"), [("torch", "gan.pt"), ("keras", "gan.npz")])
def test_a_gan_goes_on_to_the_bit(warm_project, framework: str, file: str) -> None:
    short = ("+experiment=gan", f"framework={framework}", "tracking=none", "training.steps=5")
    broken = warm_project.path / f"broken_{framework}"
    warm_project.run(*short, "training.epochs=6", "hydra.run.dir=straight")
    warm_project.run(*short, "training.epochs=3", f"hydra.run.dir={broken.name}")
    config = broken / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 3", "epochs: 6"))
    (broken / "result.json").unlink()  # as if it had been killed
    warm_project.run(f"hydra.run.dir={broken.name}")
    ends = [warm_project.path / "straight", broken]
    weights = [numbers(end / "checkpoints" / "step-00000006" / file) for end in ends]
    assert len(weights[0]) >= 12
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    results = [json.loads((end / "result.json").read_text())["metrics"] for end in ends]
    assert results[0] == results[1]


def numbers(file: Path) -> dict[str, np.ndarray]:
    """The weights in a file."""
    if file.suffix == ".npz":
        with np.load(file) as saved:
            return dict(saved)
    import torch

    state = torch.load(file, weights_only=True)
    networks = {name: state[name] for name in ("generator", "discriminator")}
    return {f"{name}.{key}": one.numpy() for name in networks for key, one in state[name].items()}


def test_a_gan_is_pruned(warm_project) -> None:
    short = ("+experiment=gan", "tracking=none", "training.steps=5", "training.epochs=12")
    warm_project.run(*short, "hydra.sweeper.n_trials=12", "hydra.sweeper.seed=1", "-m")
    assert "pruned" in set(warm_project.table("gan")["state"])
