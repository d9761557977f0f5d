"""From what runs left on disk to figures and pages; nothing here trains."""
