"""The life of one experiment: what is written, kept and recorded while it runs."""
