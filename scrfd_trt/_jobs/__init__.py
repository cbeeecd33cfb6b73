"""The stages that read, detect, draw and write at the same time, and what is done; knows nothing of GPUs."""
