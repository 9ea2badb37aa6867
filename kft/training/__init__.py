"""Training through `model.fit`: loop, optimizer, callbacks, checkpoints, devices."""
