"""Answers with what it was given: what a payload costs on its way there and back."""


def handler(event, context):
    return event
