"""Pretrained models: finding them by name, and the heads that KerasHub lacks."""
