"""Serving exports over TensorFlow Serving's REST API: a local server, a client and a Docker bundle."""
