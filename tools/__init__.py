"""Scripts that train or prepare what is part of kpdetect."""
