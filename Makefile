# The verbs of this project, one line each. Everything runs in the locked environment.
.PHONY: train sweep ui verify champion rehearse test lint format lock bench

train: ## one training run with the defaults of MLproject: make train ARGS="-P estimator=elasticnet"
	uv run mlflow run . --env-manager local $(ARGS)

sweep: ## a search for hyperparameters, as submit/sweep.yml says: make sweep ARGS="-P data=sales.parquet"
	uv run mlflow run . -e sweep --env-manager local $(ARGS)

ui: ## look at runs and registered models: http://127.0.0.1:5000
	uv run mlflow ui

verify: ## does the champion still predict what it predicted?: make verify ARGS="-P model=models:/diabetes-progression/1"
	uv run mlflow run . -e verify --env-manager local $(ARGS)

champion: ## who is champion, since when, with which lineage
	uv run python champion.py $(ARGS)

rehearse: ## a submission to Azure Machine Learning, on this machine, without an account
	uv run python -m tests.standin -- python submit/remote.py --yes $(ARGS)

test: ## all tests
	uv run pytest

lint: ## what .ci/run checks before it tests
	uv run ruff format --check . && uv run ruff check . && uv run mypy

format:
	uv run ruff format . && uv run ruff check --fix .

lock: ## after a change of pyproject.toml: uv.lock, and conda.yml from it
	uv lock && uv run python tools/conda_yml.py

bench: ## this project and its peers, side by side: make bench ARGS=--quick
	uv run python -m benchmarks $(ARGS)
