"""Track faces over the frames of a video; knows neither files nor codecs."""
