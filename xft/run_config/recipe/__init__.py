"""Write a config for a model, rows and a method, with values that fit them and the machine."""
