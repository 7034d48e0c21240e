"""What every use of Hugging Face models shares, so that it is done in one way."""
