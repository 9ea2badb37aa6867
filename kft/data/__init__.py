"""Rows of text: read, checked, cleaned, split, tokenised and planned into batches."""
