"""Types, errors and metrics: numpy and pydantic only."""
