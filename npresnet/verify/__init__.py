"""Proof that the numbers are right: beside TensorFlow, a recording, or plain NumPy."""
