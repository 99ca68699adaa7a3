# Everything that a person or CI runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: sbom wheel help install secrets demo test resilience mutants bench check pictures lock tools clean

help:            ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | column -t -s '|'

install: $(STAMP) ## make .venv with the locked dependencies and the command `onboard`

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed; say e.g. make PYTHON=python3.12 install")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: install    ## a rough night against the bundled simulator, start to reports
	@$(BIN)/onboard demo

secrets:         ## secrets/ for docker compose: a password for the ledger, a key for the demo; overwrites nothing
	@mkdir -p secrets && chmod 700 secrets  # so nobody else gets in, and in the containers the files can be read
	@umask 022 && cd secrets && \
	{ [ -e ledger_password ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >ledger_password; } && \
	{ [ -e ledger_url ] || echo "postgresql+psycopg://onboard:$$(cat ledger_password)@ledger:5432/onboard" >ledger_url; } && \
	{ [ -e elepay_secret_key ] || echo sk_test_demo >elepay_secret_key; } && \
	{ [ -e notify_urls ] || : >notify_urls; }

test: install    ## every test but most disasters, with a real Valkey and a real PostgreSQL
	$(BIN)/python -m pytest --numprocesses 6 --dist worksteal $(PYTEST_ARGS)

resilience: install ## every disaster, and searches at full length; notes which program passed
	$(BIN)/python -m pytest --resilience --numprocesses 6 --dist worksteal $(PYTEST_ARGS)
	$(BIN)/python tests/resilience_due.py --passed

mutants: install    ## break what the guarantees rest on, place by place: do the tests notice?
	@$(BIN)/python tests/mutants.py

sbom: install    ## deploy/sbom.cdx.json: what an installation consists of, with licences
	$(BIN)/python deploy/sbom.py

wheel: install   ## dist/: the wheel, built with the locked tools
	@rm -rf dist
	$(BIN)/uv build --quiet --wheel --no-build-isolation --out-dir dist .

bench: install   ## speed, side by side with what people would use instead; BENCH=--quick for a minute of it
	@$(BIN)/python -m benchmarks.bench $(BENCH)

check: install   ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pictures: install ## docs/run/pictures: what the review console looks like, by chromium and the simulator on port 8700
	@PYTHONPATH=.:tests $(BIN)/python tests/pages/pictures.py

tools:           ## what some tests need from Debian: a browser, LibreOffice, pdftoppm, a Japanese font, pgbouncer, nginx, systemd-analyze, groff (root)
	@command -v chromium >/dev/null && command -v soffice >/dev/null && command -v pdftoppm >/dev/null && [ -x /usr/sbin/pgbouncer ] && [ -x /usr/sbin/nginx ] && command -v systemd-analyze >/dev/null && command -v groff >/dev/null && fc-list 2>/dev/null | grep -qi cjk || { \
	  [ "$$(id -u)" = 0 ] || { echo "not root: install chromium libreoffice-calc poppler-utils fonts-noto-cjk pgbouncer nginx-light systemd groff-base yourself" >&2; exit 1; }; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    chromium libreoffice-calc poppler-utils fontconfig fonts-noto-cjk pgbouncer nginx-light systemd groff-base >/dev/null; }

lock: install    ## bring requirements.lock up to date with pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --group bench --group dev --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command "make lock" --quiet --output-file requirements.lock

clean:           ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
