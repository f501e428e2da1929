"""What a run leaves behind: arrays, pictures, names of classes."""
