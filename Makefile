venv: .venv/installed

.venv/installed: constraints.txt requirements.txt requirements-dev.txt
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip install --python .venv/bin/python -c constraints.txt -r requirements-dev.txt
	touch $@
