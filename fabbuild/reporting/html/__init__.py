"""The report: one HTML page about a range and its last run."""
