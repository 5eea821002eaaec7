"""Experiments as code: what a project's assignment is, in YAML files."""
