"""The stages that read, detect, draw and write at the same time; knows neither file formats nor GPUs."""
