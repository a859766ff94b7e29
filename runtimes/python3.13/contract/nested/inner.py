"""A handler in a folder."""


def handler(event, context):
    return "from a folder"
