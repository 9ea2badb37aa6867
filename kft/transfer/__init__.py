"""What of the pretrained network trains, and how."""
