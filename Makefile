# The verbs of this project, one line each. Everything runs in the locked environment.
.DEFAULT_GOAL := help
.PHONY: help train sweep compare ui verify champion predict rehearse rehearse-deploy rehearse-endpoint notebook test newest mutate lint check format sync lock bench
# What cog writes from trainer/settings.py
COGGED = MLproject submit/job.yml submit/sweep.yml README.md README.ja.md CONTRIBUTING.md docs/train.md docs/tables.md docs/trust.md docs/predict-and-deploy.md docs/compare.md tests/standin/README.md

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F'\t' '{printf "make %-18s %s\n", $$1, $$2}'

train: ## one training run with the defaults of MLproject: make train ARGS="-P estimator=elasticnet"
	uv run mlflow run . --env-manager local $(ARGS)

sweep: ## a search for hyperparameters, as submit/sweep.yml says: make sweep ARGS="-P data=sales.parquet"
	uv run mlflow run . -e sweep --env-manager local $(ARGS)

compare: ## all estimators on the same folds, and the best of them registered: make compare ARGS="-P estimators=ridge,xgboost"
	uv run mlflow run . -e compare --env-manager local $(ARGS)

ui: ## look at runs and registered models: http://127.0.0.1:5000/#/experiments/0?workflowType=machine_learning
	uv run mlflow ui --workers 1 $(ARGS)

verify: ## does the champion still predict what it predicted?: make verify ARGS="-P model=models:/diabetes-progression/1"
	uv run mlflow run . -e verify --env-manager local $(ARGS)

champion: ## who is champion, since when, with which lineage; ARGS="--version 2" promotes by hand
	uv run python champion.py $(ARGS)

predict: ## score a new table: make predict ARGS="-P data=new.csv -P output=predictions.csv"
	uv run mlflow run . -e predict --env-manager local $(ARGS)

rehearse: ## a submission to Azure Machine Learning, on this machine, without an account
	uv run python -m tests.standin -- python submit/remote.py --yes $(ARGS)

rehearse-deploy: ## the model served as Azure Machine Learning serves it, on this machine; ARGS="--model FOLDER"
	uv run python -m tools.rehearse_deploy $(ARGS)

notebook: ## the notebooks executed against a workspace on this machine, and rendered to outputs/*.html
	uv run --group notebook python -m tests.standin -- jupyter nbconvert --execute --to html --output-dir outputs notebooks/*.ipynb

rehearse-endpoint: ## a submission, and a deployment of its model, in a workspace on this machine that stays; ARGS="--instances 2"
	uv run python -m tests.standin --state ~/.cache/mlflow-trainer/rehearsal -- python submit/remote.py --yes
	uv run python -m tests.standin --state ~/.cache/mlflow-trainer/rehearsal -- python submit/remote.py deploy models:/diabetes-progression@champion --yes $(ARGS)

test: ## all tests: make test ARGS="-k champion"
	uv run pytest $(ARGS)

newest: ## train, verify and predict with the newest MLflow there is, in an environment of its own
	uv run python -m tools.newest

mutate: ## change the code's meaning in many small ways, and see that tests notice: make mutate ARGS="submit/"
	uv run python -m tools.mutate $(ARGS)

lint: ## format, style, types, imports, dependencies, and whether what is written from the settings is fresh
	uv run --group lint ruff format --check .
	uv run --group lint ruff check .
	uv run --group lint mypy
	uv run --group lint lint-imports
	uv run --group lint deptry .
	uv run --group lint cog -I . --check $(COGGED)

check: lint test ## all that .ci/run checks

format: ## format, and fix what can be fixed
	uv run --group lint ruff format . && uv run --group lint ruff check --fix .

sync: ## after a change of trainer/settings.py: write its parameters into MLproject, job.yml, sweep.yml and docs
	uv run cog -I . -r $(COGGED)

lock: ## after a change of pyproject.toml: uv.lock, and conda.yml from it
	uv lock && uv run python tools/conda_yml.py && uv run python tools/serving_yml.py

bench: ## this project and its peers, side by side: make bench ARGS=--quick
	uv run python -m benchmarks $(ARGS)
