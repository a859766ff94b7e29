"""A first function: call it with {"name": "Ada"}."""


def handler(event, context):
    name = event.get("name", "World") if isinstance(event, dict) else "World"
    print(f"greeting {name}")
    return {"message": f"Hello, {name}!", "request_id": context.aws_request_id}
