"""A function as the documentation of Powertools for AWS Lambda has it: logs, metrics, tracing that is switched off, and routes."""

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="shop")
metrics = Metrics(namespace="Shop", service="shop")
tracer = Tracer(service="shop")
app = LambdaFunctionUrlResolver()


@app.get("/items/<name>")
@tracer.capture_method
def item(name):
    if name == "nothing":
        raise NotFoundError(f"no {name}")
    logger.info("found", item=name)
    metrics.add_metric(name="Found", unit=MetricUnit.Count, value=1)
    return {"name": name, "who": app.current_event.query_string_parameters.get("who")}


@app.post("/items")
def make():
    return {"made": app.current_event.json_body["name"]}, 201


@logger.inject_lambda_context(correlation_id_path=correlation_paths.LAMBDA_FUNCTION_URL, log_event=False)
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    return app.resolve(event, context)
