"""Text that Debian packages carry, as tokens to train a language model on; README.md of training/ has the command."""
