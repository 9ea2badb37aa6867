"""SavedModels for TensorFlow Serving, and the gates they pass before they get a version number."""
