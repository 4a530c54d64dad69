"""Durable workflows; request.py is the page to start with."""
