"""Figures and pages from the files of runs; nothing here trains."""
