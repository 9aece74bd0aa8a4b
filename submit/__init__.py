"""From this machine to Azure Machine Learning: send the training script as a job, follow it, bring its results home."""
