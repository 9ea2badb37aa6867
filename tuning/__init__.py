"""The search for the best knobs of a fit: the space they come from, its trials, the study that holds them."""
