"""The studio: a local web page to try overlays on images and clips."""
