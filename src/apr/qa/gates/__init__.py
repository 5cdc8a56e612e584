"""The gates, one a file; the file's name is the gate's id. Each says why it exists, and yields findings."""
