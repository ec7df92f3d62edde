"""The worker's command loop, and the slots that build."""
