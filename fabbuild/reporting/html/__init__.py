"""The report: one HTML page of a range and its run."""
