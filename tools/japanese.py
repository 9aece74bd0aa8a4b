"""What the parameters mean, in Japanese: README.ja.md. One that is missing here is shown in English."""

# ruff: noqa: E501, RUF001

MEANINGS = {
    "data": "CSV、Parquet、Arrow IPC。ファイル、分割ファイルのフォルダー、または URL",
    "target": "予測する数値の列",
    "key": "行がどの対象（例: 患者）のものかを示す列（カンマ区切り）。特徴量にはならず、同じ対象の行は学習用かテスト用の一方にまとめられる",
    "columns": "特徴量の列（カンマ区切り）。auto: 目的変数とキー以外のすべての列",
    "drop": "除外する列（カンマ区切り）",
    "separator": "CSV の区切り文字: auto | comma | semicolon | tab | pipe",
    "decimal": "CSV の小数点: auto | point | comma",
    "estimator": "推定器: ridge | elasticnet | random_forest | hist_gradient_boosting | xgboost",
    "alpha": "正則化の強さ: ridge、elasticnet",
    "l1_ratio": "L1 正則化の割合（0 から 1）: elasticnet",
    "n_estimators": "木の数: random_forest、hist_gradient_boosting、xgboost",
    "learning_rate": "木ごとの学習率: hist_gradient_boosting、xgboost",
    "max_depth": "木の最大の深さ: random_forest、hist_gradient_boosting、xgboost",
    "scaling": "数値の特徴量の標準化: standard | none。木のモデルには不要",
    "split": "stable: 行のキーまたは特徴量のハッシュでテスト行を決める。random: seed で決める。time: 最も新しい行をテストにする",
    "time": "split=time のとき、行の日時を示す列",
    "test_fraction": "テスト行の割合（0 と 1 の間）",
    "cv": "学習行での交差検証の分割数。0: しない。auto: 100000 行までは 5",
    "seed": "推定器、交差検証の分割、random の分割に使う random_state",
    "must": "登録の条件となるテスト行での成績: rmse<60、mae<50、r2>0.3（複数はカンマ区切り）。満たさなければ終了コード 1",
    "model_name": "バージョンを追加する登録モデルの名前。none: 登録しない",
    "promote": "earned: 有意に良ければ champion になる。never: 判定を表示するだけ",
    "show": "report.html のテスト行のうち誤差の大きい行に値を表示する列（カンマ区切り）。all: すべて。none: キーだけ",
}
