"""The shape of most scripts: read with pandas, split, fit under autolog."""

import sys
from pathlib import Path

import mlflow
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

path, target = sys.argv[1:3]
frame = pd.read_csv(path) if Path(path).suffix == ".csv" else pd.read_parquet(path)
x_train, x_test, y_train, y_test = train_test_split(frame.drop(columns=target), frame[target], random_state=0)
mlflow.sklearn.autolog()
with mlflow.start_run():
    model = Ridge().fit(x_train, y_train)
    model.score(x_test, y_test)
