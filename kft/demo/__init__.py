"""Customer messages written for kft, and the demonstration that is told with them."""

from pathlib import Path

MESSAGES = Path(__file__).parent / "messages.jsonl"
