"""The shape of MLflow's own elastic net example: params and metrics by hand, a model with a signature, registered."""

import argparse

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import ElasticNet
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--target")
parser.add_argument("--alpha", type=float, default=0.1)
parser.add_argument("--l1-ratio", type=float, default=0.5)
given = parser.parse_args()

frame = pd.read_csv(given.data)
x_train, x_test, y_train, y_test = train_test_split(frame.drop(columns=given.target), frame[given.target])
with mlflow.start_run():
    model = ElasticNet(alpha=given.alpha, l1_ratio=given.l1_ratio, random_state=42).fit(x_train, y_train)
    predicted = model.predict(x_test)
    mlflow.log_param("elastic_net_alpha", given.alpha)
    mlflow.log_param("elastic_net_l1_ratio", given.l1_ratio)
    mlflow.log_metric("rmse", float(np.sqrt(mean_squared_error(y_test, predicted))))
    mlflow.log_metric("r2", r2_score(y_test, predicted))
    mlflow.log_metric("mae", mean_absolute_error(y_test, predicted))
    signature = infer_signature(x_train, model.predict(x_train))
    mlflow.sklearn.log_model(model, name="model", registered_model_name="elastic-net", signature=signature)
