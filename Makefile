# make demo   set up, then fine-tune a real 135M model on 100 rows, on a laptop CPU
# make test   set up, then the tests
# make lint   ruff and mypy
# make docs   the site, built strictly, into site/
# make soak   kill 200 runs at random moments, resume them, and compare them with runs that were not killed
# make compat exports, opened with transformers 4 and the readers of llama.cpp's converter and vLLM
# make fuzz   read 200 damaged data files of each kind
# make families  measure attention and merged adapters of all model families of transformers, and write the table of docs/models.md
# make model-table  compute the memory of the shipped models, and write it to their files and to docs/models.md
# make gpu    check the kernels on a GPU, and compare LoRA, QLoRA and full training of 8B and 1B shapes with TRL and Liger
# make notebook  run docs/first_run.ipynb as a newcomer would, in .notebook/
# make pictures  make the pictures of the README from a run of the demo; needs chromium
# make seeds  the demo with three seeds, and the score of each; CONFIG=smollm2_orpo for another

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= smollm2_lora
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint docs soak compat fuzz families model-table gpu notebook pictures seeds clean

demo: $(VENV)/.installed
	$(BIN)/python tools/train.py configs/smollm2_lora.py $(ARGS)

# Tests run beside one another, each with one thread; make test ARGS="-n 0 PATH" runs them in one process. Many wait for
# the processes that they start: one worker more than cores, at most four.
test: $(VENV)/.installed-test
	workers=$$($(BIN)/python -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))'); \
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $$workers --dist worksteal $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

soak: $(VENV)/.installed
	$(BIN)/python benchmarks/crash_soak_test.py $(ARGS)

compat: $(VENV)/.installed-test
	$(BIN)/python benchmarks/check_exports.py $(ARGS)

fuzz: $(VENV)/.installed
	$(BIN)/python benchmarks/fuzz_data.py $(ARGS)

families: $(VENV)/.installed
	$(BIN)/python benchmarks/model_families.py $(ARGS)

model-table: $(VENV)/.installed
	$(BIN)/python benchmarks/model_memory.py $(ARGS)

gpu: $(VENV)/.installed-test
	$(PIP) install -q liger-kernel
	$(BIN)/python benchmarks/bench_gpu.py $(ARGS)

# A stamp file per set of requirements: nothing is installed twice.
$(VENV)/.installed: requirements/runtime.txt requirements/demo.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "xft needs Python 3.11 or newer; say: make PYTHON=python3.11")'
	@echo "setting up $(VENV): once, some minutes, about 2 GB with torch"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -e .
	$(PIP) install -q --no-deps -r requirements/demo.txt
# mmengine asks for opencv-python, which needs the system's libGL. Where that
# is missing, the headless build provides the same module without it.
	$(BIN)/python -c 'import cv2' 2>/dev/null || $(PIP) install -q --no-deps --force-reinstall opencv-python-headless
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed $(wildcard requirements/*.txt)
	$(PIP) install -q -r requirements/test.txt
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed requirements/docs.txt
	$(PIP) install -q -r requirements/docs.txt
	touch $@

notebook: $(VENV)/.installed
	$(PIP) install -q nbclient ipykernel
	rm -rf .notebook && mkdir .notebook && cp docs/first_run.ipynb .notebook/
	$(BIN)/jupyter execute --timeout=-1 --inplace .notebook/first_run.ipynb

pictures: $(VENV)/.installed
	$(PIP) install -q pyte
	$(BIN)/python benchmarks/readme_pictures.py $(ARGS)

seeds: $(VENV)/.installed
	for seed in 0 1 2; do \
		$(BIN)/python tools/train.py configs/$(CONFIG).py --seed $$seed --work-dir runs/$(CONFIG)-$$seed || exit 1; \
	done
	grep -H '"generation"' runs/$(CONFIG)-[0-9]/metrics.jsonl

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
