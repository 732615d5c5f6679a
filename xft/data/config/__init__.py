"""Config sections of data: one class for each kind of example, and mixtures of them."""
