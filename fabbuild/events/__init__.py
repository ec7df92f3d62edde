"""The events of a run: as lines of text, as a journal on disk, as progress and as a timeline."""
