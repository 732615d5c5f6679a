"""The typed run config, and the training plan that follows from it."""
