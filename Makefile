# Every target makes its own environment first; nothing has to be installed beforehand but make and Python >= 3.11.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
PEERS := .venv-peers
# One thread a process: results then do not depend on how many processes share the machine.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist worksteal

.PHONY: demo test test-long check bench bench-gpu bench-curvature lock clean

demo: $(READY)  ## the main job on the embedded data set: what ten normalizers do to a network
	$(VENV)/bin/normscope compare --out runs

test: $(READY) check  ## everything that must hold, under 8 minutes on two cores
	$(PYTEST) -m "not long"

test-long: $(READY)  ## kills, compilers, the long fuzzing, and the kernels with Triton where it installs
	-$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps triton==3.7.0
	$(PYTEST) -m long
	$(PYTEST) tests/nn/kernels

check: $(READY)  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(READY)  ## beside torch's own layers and a bare training loop, as ratios, into benchmarks/results/
	$(VENV)/bin/python -m benchmarks

bench-gpu: $(READY)  ## on a CUDA machine: kernels against copy bandwidth, and the training step of ResNet-50
	$(VENV)/bin/python -m benchmarks.gpu

bench-curvature: $(READY) $(PEERS)/ready  ## Hessian products, densities and traces beside other tools; IMAGES=path of CIFAR-10
	$(VENV)/bin/python -m benchmarks.curvature $(if $(IMAGES),--images $(IMAGES))

$(PEERS)/ready: benchmarks/curvature/peers.txt pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet --requirement benchmarks/curvature/peers.txt
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(READY): requirements/lock.txt requirements/torch.txt pyproject.toml scripts/environment
	sh scripts/environment $(PYTHON) $(VENV)

lock: $(READY)  ## resolve requirements/lock.txt anew
	$(VENV)/bin/python -m pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet pyproject.toml requirements/environment.in --extra study --extra dev --extra foreign --universal \
		--python-version 3.11 --generate-hashes --upgrade --excludes requirements/exclude.txt \
		--custom-compile-command "make lock" -o requirements/lock.txt

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .hypothesis
