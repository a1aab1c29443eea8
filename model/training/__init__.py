"""Training, calibration and evaluation: `meet-train` and `meet-eval`."""
