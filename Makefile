# One word for each thing a developer does; `make check` is what CI runs.
.PHONY: check format quick docs reference next dist pictures bench faults gpu wheels

check:
	ruff format --check .
	ruff check .
	mypy
	pytest -n auto --dist loadfile --no-loadscope-reorder

format:
	ruff format .
	ruff check --fix .

quick:
	pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

# The site, in build/site; `python -m http.server -d build/site` shows it. A warning, such as a dead
# link, is an error.
docs: reference
	python -m zensical build --strict --clean

# The pages of docs/reference that are read from the code.
reference:
	python -m reference

# The quick tests and the main job with the newest pre-releases of Hydra and OmegaConf, which lie in
# an environment of their own in front of the current one.
next:
	python -m venv --clear .venv-next
	python -c "import site; print(site.getsitepackages()[0])" \
		> $$(.venv-next/bin/python -c "import site; print(site.getsitepackages()[0])")/current.pth
	.venv-next/bin/pip install --upgrade --pre hydra-core omegaconf
	.venv-next/bin/pip install --no-deps -e .
	.venv-next/bin/python -c "import hydra, omegaconf; print(hydra.__version__, omegaconf.__version__)"
	.venv-next/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"
	.venv-next/bin/python -m dlsweep +experiment=mnist outputs=$$(mktemp -d) hydra.sweeper.n_trials=4 -m

# The wheel and the sdist; the wheel is installed into an environment of its own and runs the main
# job in an empty folder.
dist:
	rm -rf dist
	python -m build
	twine check --strict dist/*
	python -m venv --clear .venv-dist
	.venv-dist/bin/pip install -q -c constraints.txt "$$(ls $(CURDIR)/dist/*.whl)[torch,mlflow,tensorboard]"
	cd $$(mktemp -d) && $(CURDIR)/.venv-dist/bin/python -m dlsweep +experiment=mnist hydra.sweeper.n_trials=4 -m

# The pictures of the docs, from a real sweep in a real browser.
pictures:
	python tests/results/pictures.py

faults:
	pytest tests/faults tests/launchers/slurm/test_time_limit.py --long-faults --durations=10

bench:
	for bench in tests/benchmarks/bench_*.py; do python $$bench; done

# What must be seen on a GPU, in eight minutes: one NVIDIA card, PyTorch 2.11 or newer, no network.
# `make wheels` on another machine writes what else it needs; copy the folder, and type
# `make gpu WHEELS=wheels`. Without a GPU, `python tests/gpu/run.py --cpu` tries the checks' code.
gpu:
	$(if $(WHEELS),python -m pip install --no-index --find-links $(WHEELS) dlsweep)
	python tests/gpu/run.py --out gpu.md

wheels:
	python -m pip wheel -c constraints.txt -w wheels .
