"""Hydra configuration of the command line, generated from the classes."""
