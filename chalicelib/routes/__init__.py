"""HTTP routes."""


def register(app):
    pass
