"""Text to token ids and logits to answers: TensorFlow graph code that training, predict and the export share."""
