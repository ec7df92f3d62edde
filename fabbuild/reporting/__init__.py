"""Results for readers: summary, HTML report, JUnit XML, trace and status of a run."""
