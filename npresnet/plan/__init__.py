"""What is computed together, whatever the device: fusion, folding, memory."""
