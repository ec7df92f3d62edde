"""What happens in a run: events as lines, as a journal on disk, as progress and as a timeline."""
