"""The shape of the lesson's script: Ridge, three metrics, a saved model and metric.json, alpha in the code."""

import json
import shutil
import sys

import mlflow
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split

path, target = sys.argv[1:3]
frame = pd.read_csv(path)
x_train, x_test, y_train, y_test = train_test_split(
    frame.drop(columns=target).values, frame[target].values, test_size=0.2, random_state=0
)
alpha = 0.03
mlflow.sklearn.autolog()
with mlflow.start_run() as run:
    mlflow.log_metric("alpha", alpha)
    model = Ridge(alpha=alpha).fit(x_train, y_train)
    predicted = model.predict(x_test)
    measured = {
        "run_id": run.info.run_id,
        "RMSE": mean_squared_error(y_test, predicted) ** 0.5,
        "R2": r2_score(y_test, predicted),
        "MAE": mean_absolute_error(y_test, predicted),
    }
    mlflow.log_metrics({name: value for name, value in measured.items() if name != "run_id"})
    shutil.rmtree("models", ignore_errors=True)
    mlflow.sklearn.save_model(model, "models")
    with open("metric.json", "w") as file:
        json.dump(measured, file)
