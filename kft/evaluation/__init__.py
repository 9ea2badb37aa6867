"""How good a model is: metrics, opponents that any model should beat, and a report a person can read."""
