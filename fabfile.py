from tasks import ns  # noqa: D100, F401 - `fab` looks for this file name only
