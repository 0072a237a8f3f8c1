"""``python -m dlsweep serve``: exported models over HTTP, as TensorFlow Serving serves them."""
