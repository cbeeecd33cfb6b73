"""The studio: a local page to try overlays on pictures and clips."""
