"""Scripts that train or prepare what kpdetect ships."""
