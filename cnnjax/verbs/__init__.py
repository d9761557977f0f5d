"""The verbs of the console command: each parses its flags and calls what does the work."""
