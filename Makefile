# Everything a newcomer needs, in two commands: `make demo`, then `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A page that is in no list, a broken link, a formula that cannot be drawn: each warning fails.
SITE := $(BIN)/sphinx-build -q -W --keep-going -E -a -c docs/generator -d build/doctrees .

.PHONY: demo test smoke lint packages site bench clean

demo: $(VENV)/.installed
	$(BIN)/blemish demo --report report.html --force

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --durations 15

smoke: $(VENV)/.installed-dev
	rm -f build/smoke.jsonl
	$(BIN)/blemish bench run smoke -o build/smoke.jsonl

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check src tests benchmarks docs/generator
	$(BIN)/ruff check src tests benchmarks docs/generator
	$(BIN)/mypy
	$(BIN)/lint-imports
	rm -rf build/site
	$(SITE) build/site

packages: $(VENV)/.installed-dev
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python .ci/packages

site: $(VENV)/.installed-dev
	rm -rf site
	$(SITE) site
	@echo "open site/index.html"

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/accuracy.py

clean:
	rm -rf $(VENV) report.html site build/site build/doctrees

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -e '.[fit,report,demo]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check -e '.[dev]'
	touch $@
