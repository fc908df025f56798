"""Small language models with MoBA, trained from scratch on the text of a corpus; ../README.md has the experiment."""
