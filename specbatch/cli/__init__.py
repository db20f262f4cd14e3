"""Thin Typer commands."""
