# Works on Debian or Ubuntu with Python >= 3.11 (with venv), git and make; everything else goes into .venv.
PYTHON ?= python3
PYTHON313 ?= $(firstword $(shell for p in python3.13 $$HOME/.pyenv/versions/3.13*/bin/python3.13; do \
	$$p -c '' 2>/dev/null && echo $$p; done; true))
CHROMIUM ?= $(firstword $(shell for p in chromium chromium-browser google-chrome; do \
	$$p --version >/dev/null 2>&1 && echo $$p; done; true))

.PHONY: demo test explore lint notebooks colab browser lab bench constraints clean

demo: .venv/installed  ## draw faces, run notebooks 01 to 07, say what was reached and where it lies
	.venv/bin/python -m tools.run_notebooks

test: lint .venv/installed  ## lint, the check of generated files and all tests, with the same draws on every run
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --ignore tests/test_browser.py
	@if [ -n "$(PYTHON313)" ]; then $(MAKE) --no-print-directory colab; \
	else echo "skipped: the notebooks on Colab's Python, since no python3.13 was found"; fi
	@if [ -z "$(CHROMIUM)" ]; then echo "skipped: the notebooks in a browser, since no Chromium was found"; \
	elif [ -n "$(PYTHON313)" ]; then $(MAKE) --no-print-directory browser; \
	else echo "skipped: the notebooks in notebook 6, since no python3.13 was found"; $(MAKE) --no-print-directory lab; fi

explore: .venv/installed  ## fresh draws of the property tests; keep what they find as @example
	.venv/bin/python -m pytest --hypothesis-profile=explore -m hypothesis

lint: .venv/installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python -m tools.build_notebooks --check

notebooks: .venv/installed  ## build the notebooks, the guide and README's table from notebooks/src
	.venv/bin/python -m tools.build_notebooks

colab: .venv-colab/installed  ## run the notebooks on Colab's Python version with Colab's library versions
	.venv-colab/bin/python -m pytest tests/test_notebooks.py tests/test_session.py

browser: .venv-lab/installed .venv-colab/installed  ## click through notebooks in Chromium, in notebook 6 and JupyterLab 4
	@[ -n "$(CHROMIUM)" ] || { echo "make browser needs Chromium; Debian's package is chromium"; exit 1; }
	CHROMIUM=$(CHROMIUM) .venv/bin/python -m pytest tests/test_browser.py

lab: .venv-lab/installed  ## the half of make browser that needs no Python 3.13
	CHROMIUM=$(CHROMIUM) .venv/bin/python -m pytest tests/test_browser.py -k jupyterlab

bench: .venv/installed  ## measure loader, store, training, evaluation and export on drawn faces; FACES=<packed store> for others
	.venv/bin/python -m benchmarks.loader $(if $(FACES),--faces $(FACES))
	.venv/bin/python -m benchmarks.store $(if $(FACES),--faces $(FACES))
	.venv/bin/python -m benchmarks.training $(if $(FACES),--faces $(FACES))
	.venv/bin/python -m benchmarks.evaluation $(if $(FACES),--faces $(FACES))
	.venv/bin/python -m benchmarks.onnx $(if $(FACES),--faces $(FACES))

constraints: .venv/installed  ## pin what a new requirement needs; what is pinned stays, so edit a line to change it
	.venv/bin/uv pip compile --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --quiet -c constraints.txt requirements-dev.txt -o .constraints.new
	(head -1 constraints.txt; cat .constraints.new) > .constraints.txt
	mv .constraints.txt constraints.txt
	rm .constraints.new

.venv/installed: constraints.txt requirements.txt requirements-export.txt requirements-dev.txt
	$(call install,.venv,$(PYTHON))

.venv-colab/installed: constraints.txt requirements.txt requirements-export.txt requirements-dev.txt
	@[ -n "$(PYTHON313)" ] || { echo "make colab needs a python3.13; name one with PYTHON313=/path/to/python3.13"; exit 1; }
	$(call install,.venv-colab,$(PYTHON313))

# JupyterLab 4 and ipywidgets 8 before everything that .venv has.
.venv-lab/installed: .venv/installed requirements-lab.txt
	.venv/bin/uv venv --clear --python .venv/bin/python .venv-lab
	.venv/bin/uv pip install --python .venv-lab/bin/python -r requirements-lab.txt
	.venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$(.venv-lab/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/venv.pth
	touch $@

# Compiling the bytecode once saves it at the start of every notebook's kernel.
define install
	$(2) -m venv $(1)
	$(1)/bin/python -m pip install --quiet uv
	$(1)/bin/uv pip install --compile-bytecode --python $(1)/bin/python -c constraints.txt -r requirements-dev.txt
	touch $(1)/installed
endef

clean:
	rm -rf .venv .venv-colab .venv-lab workspace
