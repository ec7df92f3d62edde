"""Patches from mails: read the mails, choose the series among them, and apply it as commits on a base."""
