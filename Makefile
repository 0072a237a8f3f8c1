# One word for each thing a developer does; `make check` is what CI runs.
.PHONY: check format quick bench faults

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

faults:
	pytest tests/faults --long-faults --durations=10

bench:
	for bench in tests/benchmarks/bench_*.py; do python $$bench; done
